"""Loading: pictures decoded and gathered by threads ahead of the model, and handed over in batches."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from torch import Tensor

from ovsr_gpu.images import ImageBatch
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.picture import Picture
from ovsr_gpu.turns import Task, in_turns

PIXEL_BUDGET = 64_000_000
"""Pixels of a padded batch, and decoded pixels that may wait for the model."""

WORKERS = min(8, os.cpu_count() or 1)
Decode = Callable[[BinaryIO], Tensor]


@dataclass(frozen=True)
class LoadedPicture:
    """A picture and its `[3, H, W]` uint8 pixels, or the error that reading it raised.

    disk_seconds, decode_seconds: what a thread spent on it.
    """

    picture: Picture
    pixels: Tensor | Exception
    disk_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def height_and_width(self) -> tuple[int, int]:
        """(0, 0) for a picture that could not be read."""
        return (0, 0) if isinstance(self.pixels, Exception) else (self.pixels.shape[1], self.pixels.shape[2])

    @property
    def on_device(self) -> bool:
        return isinstance(self.pixels, Tensor) and not self.pixels.is_cpu


@dataclass(frozen=True)
class LoadedBatch:
    """Pictures in the order of the sources, the unreadable ones among them.

    canvas: the readable ones as one batch, being gathered.
    """

    pictures: list[LoadedPicture]
    canvas: Future[ImageBatch]


def load_batches(
    pictures: Iterable[Picture], batch_size: int, *, decode: Decode = decode_picture, pinned: bool = False
) -> Generator[LoadedBatch, None, None]:
    """Yield all pictures in their order, also the unreadable ones, in batches of up to `batch_size`.

    A batch is smaller where its pictures, each padded to the largest height and width among them, would exceed
    `PIXEL_BUDGET` pixels; a picture larger than that stands alone. While a batch is in use the next one is gathered,
    in pinned memory if `pinned`. `decode` is called by several threads at once; it may leave pictures on a device.
    """
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-decode")

    def gather(batch: list[LoadedPicture]) -> Task[LoadedBatch]:
        readable = [loaded.pixels for loaded in batch if isinstance(loaded.pixels, Tensor)]
        canvas = pool.submit(ImageBatch.gather, readable, pinned=pinned)
        yield
        return LoadedBatch(batch, canvas)

    try:
        loaded = _decode_ahead(pool, pictures, decode, batch_size + WORKERS)
        yield from in_turns(map(gather, _in_batches(loaded, batch_size)))
        pool.shutdown()  # the last batch may still be gathered
    finally:
        pool.shutdown(cancel_futures=True)


def _in_batches(pictures: Iterator[LoadedPicture], batch_size: int) -> Iterator[list[LoadedPicture]]:
    batch: list[LoadedPicture] = []
    for loaded in pictures:
        if batch and (len(batch) == batch_size or _padded_pixels([*batch, loaded]) > PIXEL_BUDGET):
            yield batch
            batch = []
        batch.append(loaded)
    if batch:
        yield batch


def _padded_pixels(batch: Sequence[LoadedPicture]) -> int:
    heights, widths = zip(*(loaded.height_and_width for loaded in batch), strict=True)
    return len(batch) * max(heights) * max(widths)


def _decode_ahead(
    pool: ThreadPoolExecutor, pictures: Iterable[Picture], decode: Decode, ahead: int
) -> Iterator[LoadedPicture]:
    remaining = iter(pictures)
    waiting: deque[Future[LoadedPicture]] = deque()
    while True:
        while len(waiting) < ahead and _decoded_pixels(waiting) < PIXEL_BUDGET:
            picture = next(remaining, None)
            if picture is None:
                break
            waiting.append(pool.submit(_load, picture, decode))
        if not waiting:
            return
        yield waiting.popleft().result()


def _decoded_pixels(waiting: deque[Future[LoadedPicture]]) -> int:
    sizes = (future.result().height_and_width for future in waiting if future.done())
    return sum(height * width for height, width in sizes)


def _load(picture: Picture, decode: Decode) -> LoadedPicture:
    start, disk_seconds = time.perf_counter(), 0.0
    pixels: Tensor | Exception
    try:
        with picture.open() as file:
            pixels = decode(file)
            disk_seconds = file.disk_seconds
    except Exception as error:  # also a MemoryError: one picture never ends a run
        pixels = error
    return LoadedPicture(picture, pixels, disk_seconds, time.perf_counter() - start - disk_seconds)
