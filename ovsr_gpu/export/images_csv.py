"""`images.csv`: a line an image, to sort them by how uncertain their labels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ovsr_gpu.runtime.atomic import write_csv
from ovsr_gpu.store.store import ImageReader

FILE = "images.csv"


def write_images(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write the images in the order of the store: name, path, regions, uncertainty and fraction of "something else".

    uncertainty: the mean of 1 - score over the image's pixels: the fraction of them that is named wrongly, if the scores
    are as often right as they say.
    """
    write_csv(out / FILE, _lines(images, len(classes)))


def _lines(images: ImageReader, classes: int) -> Iterator[Sequence[object]]:
    yield ["image", "file", "regions", "uncertainty", "something_else"]
    for regions in images(["image", "file", "class_index", "score", "area"]):
        area = sum(row["area"] for row in regions)
        doubt = sum((1 - row["score"]) * row["area"] for row in regions) / area
        other = sum(row["area"] for row in regions if row["class_index"] == classes) / area
        first = regions[0]
        yield [first["image"], first["file"], len(regions), round(doubt, 6), round(other, 6)]
