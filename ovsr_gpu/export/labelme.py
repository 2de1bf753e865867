"""labelme annotations: `<name>.json`, which labelme opens together with the image at its original path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovsr_gpu.export.polygons import polygons
from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS
from ovsr_gpu.vocabulary import SOMETHING_ELSE

VERSION = "5.0.0"
"""The version of labelme's format; newer versions of labelme read it too."""


def write_labelme(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write one file per image with one polygon per region.

    Regions of "something else" are included, so that they can be named by hand.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    names = [*class_names, SOMETHING_ELSE]
    for regions in images(ANNOTATION_COLUMNS):
        first = regions[0]
        shapes = [
            {
                "label": names[row["class_index"]],
                "points": polygon.round(3).tolist(),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for row, polygon in zip(regions, polygons(regions), strict=True)
        ]
        content = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": first["file"],
            "imageData": None,
            "imageHeight": first["height"],
            "imageWidth": first["width"],
        }
        write_json(out / f"{first['image']}.json", content)
