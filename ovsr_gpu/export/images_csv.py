"""`images.csv`: one line per image, for example to sort images by the uncertainty of their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ovsr_gpu.results import expected_errors
from ovsr_gpu.runtime.atomic import write_csv
from ovsr_gpu.store.reader import ImageReader

IMAGES_CSV = "images.csv"


def write_images_csv(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write `images.csv`: name, path, number of regions, uncertainty and fraction of "something else" of each image.

    The uncertainty is the mean of 1 - score over the image's pixels: the expected fraction of wrongly labelled pixels
    if the scores are calibrated. Images are in the order of the store.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    write_csv(out / IMAGES_CSV, _lines(images, len(class_names)))


def _lines(images: ImageReader, num_classes: int) -> Iterator[Sequence[object]]:
    yield ["image", "file", "regions", "uncertainty", "something_else"]
    for regions in images(["image", "file", "class_index", "score", "area"]):
        area = sum(row["area"] for row in regions)
        uncertainty = sum(expected_errors(row["score"], row["area"]) for row in regions) / area
        something_else = sum(row["area"] for row in regions if row["class_index"] == num_classes) / area
        first = regions[0]
        yield [first["image"], first["file"], len(regions), round(uncertainty, 6), round(something_else, 6)]
