"""Loading: images decoded and gathered by threads ahead of the model, and handed over in batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import starmap
from typing import BinaryIO

from torch import Tensor

from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.runtime.interleave import delayed
from ovsr_gpu.runtime.threads import WORKERS
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource

PIXEL_BUDGET = 64_000_000
"""Pixels of a padded batch, and decoded pixels that may wait for the model."""

Decode = Callable[[BinaryIO], Tensor]


@dataclass(frozen=True)
class LoadedImage:
    """An image and its `[3, H, W]` uint8 pixels, or the error that reading it raised.

    disk_seconds, decode_seconds: what a thread spent on it.
    """

    source: ImageSource
    pixels: Tensor | Exception
    disk_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def height_and_width(self) -> tuple[int, int]:
        """(0, 0) for an image that could not be read."""
        return (0, 0) if isinstance(self.pixels, Exception) else (self.pixels.shape[1], self.pixels.shape[2])

    @property
    def on_device(self) -> bool:
        return isinstance(self.pixels, Tensor) and not self.pixels.is_cpu


@dataclass(frozen=True)
class LoadedBatch:
    """Images in the order of the sources, the unreadable ones among them, that go through the models together.

    canvas: the readable ones as one batch, being gathered. is_last: of the batch that they were given in.
    """

    images: list[LoadedImage]
    canvas: Future[ImageBatch]
    is_last: bool


def load_batches(
    batches: Iterable[Sequence[ImageSource]], *, decode: Decode = decode_image, pinned: bool = False
) -> Generator[LoadedBatch, None, None]:
    """Yield all images in their order, also the unreadable ones, batch by batch.

    A batch comes in parts where its images, each padded to the largest height and width among them, would exceed
    `PIXEL_BUDGET` pixels; an image larger than that stands alone. While a batch is in use the next one is gathered,
    in pinned memory if `pinned`, and images of those behind it are decoded. An empty batch is passed on, and until it
    is none behind it is asked for: it lets those before it through where the next one may be long in coming.
    `decode` is called by several threads at once; it may leave images on a device.
    """
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-decode")
    gathering = ThreadPoolExecutor(1, thread_name_prefix="ovsr-gather")  # not behind images that are needed later

    def gather(images: list[LoadedImage], is_last: bool) -> LoadedBatch:
        readable = [loaded.pixels for loaded in images if isinstance(loaded.pixels, Tensor)]
        return LoadedBatch(images, gathering.submit(ImageBatch.gather, readable, pinned=pinned), is_last)

    try:
        loaded = _decode_ahead(pool, batches, decode)
        yield from delayed(starmap(gather, _parts(loaded)), 1)
        gathering.shutdown()  # the last batch may still be gathered
    finally:
        for threads in (pool, gathering):
            threads.shutdown(cancel_futures=True)


Loading = tuple[Future[LoadedImage] | None, bool]
"""An image being read, and whether its batch ends with it; an empty batch is None and an end."""


def _parts(images: Iterable[Loading]) -> Iterator[tuple[list[LoadedImage], bool]]:
    """The images that go through the models together, and whether they are the last of their batch."""
    part: list[LoadedImage] = []
    for loading, is_last in images:
        if loading is not None:
            loaded = loading.result()
            if part and _padded_pixels([*part, loaded]) > PIXEL_BUDGET:
                yield part, False
                part = []
            part.append(loaded)
        if is_last:
            yield part, True
            part = []


def _padded_pixels(batch: Sequence[LoadedImage]) -> int:
    heights, widths = zip(*(loaded.height_and_width for loaded in batch), strict=True)
    return len(batch) * max(heights) * max(widths)


def _decode_ahead(
    pool: ThreadPoolExecutor, batches: Iterable[Sequence[ImageSource]], decode: Decode
) -> Iterator[Loading]:
    waiting: deque[Loading] = deque()

    def no_more_than(images: int) -> Iterator[Loading]:
        while len(waiting) > images or _decoded_pixels(waiting) >= PIXEL_BUDGET:
            yield waiting.popleft()

    for batch in batches:
        for number, image in enumerate(batch, start=1):
            waiting.append((pool.submit(_load, image, decode), number == len(batch)))
            yield from no_more_than(len(batch) + WORKERS)
        if not batch:
            yield from no_more_than(0)
            yield None, True
    yield from no_more_than(0)


def _decoded_pixels(waiting: Iterable[Loading]) -> int:
    sizes = (loading.result().height_and_width for loading, _ in waiting if loading is not None and loading.done())
    return sum(height * width for height, width in sizes)


def _load(image: ImageSource, decode: Decode) -> LoadedImage:
    start, disk_seconds = time.perf_counter(), 0.0
    pixels: Tensor | Exception
    try:
        with image.open() as file:
            pixels = decode(file)
            disk_seconds = file.disk_seconds
    except Exception as error:  # also a MemoryError: one image never ends a run
        pixels = error
    return LoadedImage(image, pixels, disk_seconds, time.perf_counter() - start - disk_seconds)
