"""Loading: pictures decoded by threads ahead of the model and handed over in batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from ovsr_gpu.sources.decode import read_picture
from ovsr_gpu.sources.files import Picture

PIXEL_BUDGET = 64_000_000
"""Pixels of a padded batch, and decoded pixels that may wait for the model."""

WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class LoadedPicture:
    """A picture and its `[3, H, W]` uint8 pixels, or the error that reading it raised."""

    picture: Picture
    pixels: Tensor | Exception

    @property
    def height_and_width(self) -> tuple[int, int]:
        """(0, 0) for a picture that could not be read."""
        return (0, 0) if isinstance(self.pixels, Exception) else (self.pixels.shape[1], self.pixels.shape[2])


def load_batches(pictures: Sequence[Picture], batch_size: int) -> Generator[list[LoadedPicture], None, None]:
    """Yield all pictures in their order, also the unreadable ones, in lists of up to `batch_size`.

    A list is shorter where its pictures, each padded to the largest height and width of the list, would exceed
    `PIXEL_BUDGET` pixels; a picture larger than that stands alone.
    """
    batch: list[LoadedPicture] = []
    for loaded in _decode_ahead(pictures, batch_size + WORKERS):
        if batch and (len(batch) == batch_size or _padded_pixels([*batch, loaded]) > PIXEL_BUDGET):
            yield batch
            batch = []
        batch.append(loaded)
    if batch:
        yield batch


def _padded_pixels(batch: Sequence[LoadedPicture]) -> int:
    heights, widths = zip(*(loaded.height_and_width for loaded in batch), strict=True)
    return len(batch) * max(heights) * max(widths)


def _decode_ahead(pictures: Sequence[Picture], ahead: int) -> Generator[LoadedPicture, None, None]:
    remaining = iter(pictures)
    waiting: deque[Future[LoadedPicture]] = deque()
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-decode")
    try:
        while True:
            while len(waiting) < ahead and _decoded_pixels(waiting) < PIXEL_BUDGET:
                picture = next(remaining, None)
                if picture is None:
                    break
                waiting.append(pool.submit(_load, picture))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded_pixels(waiting: deque[Future[LoadedPicture]]) -> int:
    sizes = (future.result().height_and_width for future in waiting if future.done())
    return sum(height * width for height, width in sizes)


def _load(picture: Picture) -> LoadedPicture:
    try:
        return LoadedPicture(picture, read_picture(picture.path))
    except Exception as error:  # also a MemoryError: one picture never ends a run
        return LoadedPicture(picture, error)
