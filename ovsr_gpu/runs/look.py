"""What the gallery shows of a run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ovsr_gpu.export.masks import paint_regions
from ovsr_gpu.export.record import Array
from ovsr_gpu.gallery.page import GalleryFailure, GalleryPicture
from ovsr_gpu.runs.store import ANNOTATION, Store
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.picture import Picture
from ovsr_gpu.sources.stored import stored_picture


def pictures_of(store: Store) -> Iterator[GalleryPicture]:
    """The labelled pictures of a run; they are read again from where they were."""
    for regions in store.pictures(ANNOTATION):
        name = regions[0]["picture"]
        yield GalleryPicture(
            name,
            partial(_pixels, stored_picture(name, regions[0]["file"], regions[0]["source"])),
            partial(paint_regions, regions, [row["class_index"] for row in regions]),
            [(row["class_index"], row["score"], row["area"]) for row in regions],
        )


def failures_of(store: Store) -> Iterator[GalleryFailure]:
    for failure in store.failures():
        yield GalleryFailure(Path(failure.path), failure.stage, failure.reason)


def _pixels(picture: Picture) -> Array:
    with picture.open() as file:
        return decode_picture(file).permute(1, 2, 0).numpy()
