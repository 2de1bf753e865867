"""Ultralytics' segmentation labels: `data.yaml`, `labels/<name>.txt`, and in `images/` links to the images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from ovsr_gpu.export.polygons import polygons
from ovsr_gpu.runtime.atomic import replacing
from ovsr_gpu.store.store import ANNOTATION, ImageReader

NOTE = """\
# images/ holds links to the images. One that is behind a URL or in an archive, or that this system cannot link, goes
# there under the name of its label. val names the images of train until they are split.
"""


def write_yolo(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write a line a region: the class, then the points of its polygon as fractions of the image's width and height.

    Regions of "something else" are left out: what has no label is background to Ultralytics. A label stands where
    Ultralytics looks for it: at the link's path with "labels" for the last folder "images".
    """
    content = {"train": "images", "val": "images", "names": dict(enumerate(classes))}
    with replacing(out / "data.yaml") as file:
        file.write((NOTE + yaml.safe_dump(content, allow_unicode=True, sort_keys=False)).encode())
    for regions in images(ANNOTATION):
        name, image = regions[0]["image"], regions[0]["file"]
        size = (regions[0]["width"], regions[0]["height"])
        folder, _, last = f"/images/{name}".rpartition("/images/")  # a name may have a folder "images" as well
        with replacing(out / f"{folder}/labels/{last}.txt".lstrip("/")) as file:
            for row, polygon in zip(regions, polygons(regions), strict=True):
                if row["class_index"] < len(classes):
                    points = " ".join(f"{fraction:.6f}" for fraction in (polygon / size).flat)
                    file.write(f"{row['class_index']} {points}\n".encode("ascii"))
        if os.path.exists(image):
            link = out / "images" / f"{name}{os.path.splitext(image)[1]}"
            link.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # Windows wants a privilege for links, and some file systems have none
                link.symlink_to(image)
