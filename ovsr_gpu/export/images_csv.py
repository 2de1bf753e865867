"""`pictures.csv`: a line a picture, to sort them by how uncertain their labels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ovsr_gpu.runtime.atomic import write_csv
from ovsr_gpu.store.store import Pictures

FILE = "pictures.csv"


def write_pictures(pictures: Pictures, classes: Sequence[str], out: Path) -> None:
    """Write the pictures in the order of the store: name, path, regions, uncertainty and share of "something else".

    uncertainty: the mean of 1 - score over the picture's pixels: the share of them that is named wrongly, if the scores
    are as often right as they say.
    """
    write_csv(out / FILE, _lines(pictures, len(classes)))


def _lines(pictures: Pictures, classes: int) -> Iterator[Sequence[object]]:
    yield ["picture", "file", "regions", "uncertainty", "something_else"]
    for regions in pictures(["picture", "file", "class_index", "score", "area"]):
        area = sum(row["area"] for row in regions)
        doubt = sum((1 - row["score"]) * row["area"] for row in regions) / area
        other = sum(row["area"] for row in regions if row["class_index"] == classes) / area
        first = regions[0]
        yield [first["picture"], first["file"], len(regions), round(doubt, 6), round(other, 6)]
