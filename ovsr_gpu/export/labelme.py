"""labelme's annotations: `<name>.json`, which labelme opens with the image where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovsr_gpu.export.polygons import polygons
from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.store.store import ANNOTATION, ImageReader
from ovsr_gpu.vocabulary import SOMETHING_ELSE

VERSION = "5.0.0"
"""Of labelme's format; later ones read it as well."""


def write_labelme(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write a polygon a region, "something else" among them, so that it can be given a name by hand."""
    names = [*classes, SOMETHING_ELSE]
    for regions in images(ANNOTATION):
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
