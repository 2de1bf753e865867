"""What the gallery shows of a run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ovsr_gpu.export.record import Array
from ovsr_gpu.gallery.page import GalleryFailure, GalleryPicture
from ovsr_gpu.runs.store import Store
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.picture import Picture
from ovsr_gpu.sources.stored import stored_picture


def pictures_of(out: Path, store: Store) -> Iterator[GalleryPicture]:
    """The labelled pictures of the run in `out`; they are read again from where they were."""
    for regions in store.pictures(["picture", "file", "source", "class_index", "score", "area"]):
        name = regions[0]["picture"]
        yield GalleryPicture(
            name,
            partial(_pixels, stored_picture(name, regions[0]["file"], regions[0]["source"])),
            partial(_class_map, out / "labels" / f"{name}.png"),
            [(row["class_index"], row["score"], row["area"]) for row in regions],
        )


def failures_of(store: Store) -> Iterator[GalleryFailure]:
    for failure in store.failures():
        yield GalleryFailure(Path(failure.path), failure.stage, failure.reason)


def _pixels(picture: Picture) -> Array:
    with picture.open() as file:
        return decode_picture(file).permute(1, 2, 0).numpy()


def _class_map(path: Path) -> Array:
    with Image.open(path) as image:
        return np.asarray(image)
