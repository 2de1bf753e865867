"""Images and failures of a labelling run, for the gallery and for search results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ovsr_gpu.drawing.page_images import TRANSPARENT
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.stored import stored_image
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.viewer.gallery import GalleryFailure, GalleryImage
from ovsr_gpu.viewer.region_search import Hit


def gallery_images(store: Store) -> Iterator[GalleryImage]:
    """Yield the labelled images of a run; their pixels are read again from the original files."""
    for regions in store.images(ANNOTATION_COLUMNS):
        yield GalleryImage(
            regions[0]["image"],
            partial(_read_pixels, regions[0]),
            partial(paint_regions, regions, [row["class_index"] for row in regions]),
            [(row["class_index"], row["score"], row["area"]) for row in regions],
        )


def search_images(hits: Sequence[Hit], num_classes: int) -> Iterator[GalleryImage]:
    """Yield the image of each search hit, with everything except the region covered.

    Args:
        hits: The regions found, in the order to show.
        num_classes: The number of classes L of the run.

    Yields:
        One image per hit.
    """
    for hit in hits:
        yield GalleryImage(
            hit.row["image"],
            partial(_read_pixels, hit.row),
            partial(_cover_surroundings, hit.row, num_classes),
            [(hit.row["class_index"], hit.similarity, hit.row["area"])],
        )


def gallery_failures(store: Store) -> Iterator[GalleryFailure]:
    """Yield the images of a run that could not be labelled."""
    for failure in store.failures():
        yield GalleryFailure(Path(failure.path), failure.stage, failure.reason)


def _read_pixels(row: Row) -> Array:
    with stored_image(row["image"], row["file"], row["source"]).open() as file:
        return decode_image(file).permute(1, 2, 0).numpy()


def _cover_surroundings(row: Row, num_classes: int) -> Array:
    """Return a class map that is transparent in the region and has "something else" everywhere else."""
    return np.where(paint_regions([row], [1]) == 1, TRANSPARENT, num_classes)
