"""What the gallery shows of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ovsr_gpu.drawing.page_images import UNCOVERED
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.stored import stored_image
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.store import ANNOTATION, Row, Store
from ovsr_gpu.viewer.gallery import GalleryFailure, GalleryImage
from ovsr_gpu.viewer.region_search import Hit


def images_of(store: Store) -> Iterator[GalleryImage]:
    """The labelled images of a run; they are read again from where they were."""
    for regions in store.images(ANNOTATION):
        name = regions[0]["image"]
        yield GalleryImage(
            name,
            partial(_pixels, regions[0]),
            partial(paint_regions, regions, [row["class_index"] for row in regions]),
            [(row["class_index"], row["score"], row["area"]) for row in regions],
        )


def images_of_hits(hits: Sequence[Hit], classes: int) -> Iterator[GalleryImage]:
    """For each hit of a search its image, in which all but the region is covered. classes: how many the run has."""
    for hit in hits:
        yield GalleryImage(
            hit.row["image"],
            partial(_pixels, hit.row),
            partial(_all_but_region, hit.row, classes),
            [(hit.row["class_index"], hit.similarity, hit.row["area"])],
        )


def failures_of(store: Store) -> Iterator[GalleryFailure]:
    for failure in store.failures():
        yield GalleryFailure(Path(failure.path), failure.stage, failure.reason)


def _pixels(row: Row) -> Array:
    with stored_image(row["image"], row["file"], row["source"]).open() as file:
        return decode_image(file).permute(1, 2, 0).numpy()


def _all_but_region(row: Row, classes: int) -> Array:
    return np.where(paint_regions([row], [1]) == 1, UNCOVERED, classes)
