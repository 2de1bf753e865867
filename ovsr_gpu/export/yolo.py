"""Ultralytics YOLO segmentation labels: `data.yaml`, `labels/<name>.txt`, and links to the images in `images/`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from ovsr_gpu.export.polygons import polygons
from ovsr_gpu.runtime.atomic import atomic_write
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS

NOTE = """\
# images/ holds links to the images. Add by hand, under the name of its label file, each image that could not be linked
# (behind a URL or in an archive). val is the same as train until you split the images.
"""


def write_yolo(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write one line per region: the class index, then the polygon as fractions of the image's width and height.

    Regions of "something else" are left out: Ultralytics treats unlabelled pixels as background. Each label file is
    where Ultralytics looks for it: at the path of the link with the last folder "images" replaced by "labels".

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    content = {"train": "images", "val": "images", "names": dict(enumerate(class_names))}
    with atomic_write(out / "data.yaml") as file:
        file.write((NOTE + yaml.safe_dump(content, allow_unicode=True, sort_keys=False)).encode())
    for regions in images(ANNOTATION_COLUMNS):
        name, image = regions[0]["image"], regions[0]["file"]
        size = (regions[0]["width"], regions[0]["height"])
        folder, _, stem = f"/images/{name}".rpartition("/images/")  # the name itself may contain a folder "images"
        with atomic_write(out / f"{folder}/labels/{stem}.txt".lstrip("/")) as file:
            for row, polygon in zip(regions, polygons(regions), strict=True):
                if row["class_index"] < len(class_names):
                    points = " ".join(f"{fraction:.6f}" for fraction in (polygon / size).flat)
                    file.write(f"{row['class_index']} {points}\n".encode("ascii"))
        if os.path.exists(image):
            link = out / "images" / f"{name}{os.path.splitext(image)[1]}"
            link.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # Windows requires a privilege for links; some file systems have no links
                link.symlink_to(image)
