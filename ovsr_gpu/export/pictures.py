"""`pictures.csv`: a line a picture, to sort them by how uncertain their labels are."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ovsr_gpu.export.atomic import replacing
from ovsr_gpu.runs.store import Pictures

FILE = "pictures.csv"


def write_pictures(pictures: Pictures, classes: Sequence[str], out: Path) -> None:
    """Write the pictures in the order of the store: name, path, regions, uncertainty and share of "something else".

    uncertainty: the mean of 1 - score over the picture's pixels: the share of them that is named wrongly, if the scores
    are as often right as they say.
    """
    with replacing(out / FILE) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["picture", "file", "regions", "uncertainty", "something_else"])
        for regions in pictures(["picture", "file", "class_index", "score", "area"]):
            area = sum(row["area"] for row in regions)
            doubt = sum((1 - row["score"]) * row["area"] for row in regions) / area
            other = sum(row["area"] for row in regions if row["class_index"] == len(classes)) / area
            first = regions[0]
            lines.writerow([first["picture"], first["file"], len(regions), round(doubt, 6), round(other, 6)])
        text.detach()
