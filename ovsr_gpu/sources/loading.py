"""Load images in batches: threads decode and collate them ahead of the model."""

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
from ovsr_gpu.runtime.threads import NUM_WORKERS
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource

PIXEL_BUDGET = 64_000_000
"""Maximum number of pixels of a padded batch, and of decoded images that wait for the model."""

Decoder = Callable[[BinaryIO], Tensor]
"""Function from an open image file to `[3, H, W]` uint8 pixels."""


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Attributes:
        source: Where the image comes from.
        pixels: `[3, H, W]` uint8, or the error that reading it raised.
        disk_seconds: Time a thread spent on reading it, in seconds.
        decode_seconds: Time a thread spent on decoding it, in seconds.
    """

    source: ImageSource
    pixels: Tensor | Exception
    disk_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Size in pixels, (0, 0) for an image that could not be read."""
        return (0, 0) if isinstance(self.pixels, Exception) else (self.pixels.shape[1], self.pixels.shape[2])

    @property
    def on_device(self) -> bool:
        """Whether the pixels were decoded on a device."""
        return isinstance(self.pixels, Tensor) and not self.pixels.is_cpu


@dataclass(frozen=True)
class LoadedBatch:
    """Images that go through the models together.

    Attributes:
        images: All images in the order of the sources, including unreadable ones.
        image_batch: Future of the readable images as one batch.
        is_last: Whether this is the last part of the batch that was requested.
    """

    images: list[LoadedImage]
    image_batch: Future[ImageBatch]
    is_last: bool


def load_batches(
    batches: Iterable[Sequence[ImageSource]], *, decode: Decoder = decode_image, pin_memory: bool = False
) -> Generator[LoadedBatch, None, None]:
    """Load images batch by batch, ahead of their use.

    A batch is split where its images, each padded to the largest height and width among them, would exceed
    `PIXEL_BUDGET` pixels; an image that is larger than that forms a part of its own. While one batch is in use, the
    next one is collated and images of later ones are decoded.

    An empty batch is passed on as an empty `LoadedBatch` before any later batch is requested. It flushes the batches
    before it when the next one may take long to arrive.

    Args:
        batches: Images to load.
        decode: Function that decodes an open file; several threads call it at once, and it may return tensors on a
            device.
        pin_memory: Whether to collate batches in pinned memory.

    Yields:
        All images in order, including unreadable ones, in batches or parts of batches.
    """
    decode_pool = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="ovsr-decode")
    # A separate pool, so that collating never waits for images that are needed later.
    collate_pool = ThreadPoolExecutor(1, thread_name_prefix="ovsr-gather")

    def collate(images: list[LoadedImage], is_last: bool) -> LoadedBatch:
        readable = [loaded.pixels for loaded in images if isinstance(loaded.pixels, Tensor)]
        return LoadedBatch(images, collate_pool.submit(ImageBatch.collate, readable, pin_memory=pin_memory), is_last)

    try:
        decoding = _decode_ahead(decode_pool, batches, decode)
        yield from delayed(starmap(collate, _parts(decoding)), 1)
        collate_pool.shutdown()  # the last batch may still be in progress
    finally:
        for pool in (decode_pool, collate_pool):
            pool.shutdown(cancel_futures=True)


_PendingImage = tuple[Future[LoadedImage] | None, bool]
"""An image that is being read, and whether it is the last of its batch; (None, True) represents an empty batch."""


def _parts(images: Iterable[_PendingImage]) -> Iterator[tuple[list[LoadedImage], bool]]:
    """Yield the images of each part of a batch, and whether it is the last part."""
    part: list[LoadedImage] = []
    for pending, is_last in images:
        if pending is not None:
            loaded = pending.result()
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
    pool: ThreadPoolExecutor, batches: Iterable[Sequence[ImageSource]], decode: Decoder
) -> Iterator[_PendingImage]:
    """Decode a limited number of images ahead and yield them in order."""
    queue: deque[_PendingImage] = deque()

    def drain(max_images: int) -> Iterator[_PendingImage]:
        while len(queue) > max_images or _decoded_pixels(queue) >= PIXEL_BUDGET:
            yield queue.popleft()

    for batch in batches:
        for number, image in enumerate(batch, start=1):
            queue.append((pool.submit(_load, image, decode), number == len(batch)))
            yield from drain(len(batch) + NUM_WORKERS)
        if not batch:
            yield from drain(0)
            yield None, True
    yield from drain(0)


def _decoded_pixels(queue: Iterable[_PendingImage]) -> int:
    sizes = (pending.result().height_and_width for pending, _ in queue if pending is not None and pending.done())
    return sum(height * width for height, width in sizes)


def _load(image: ImageSource, decode: Decoder) -> LoadedImage:
    start, disk_seconds = time.perf_counter(), 0.0
    pixels: Tensor | Exception
    try:
        with image.open() as file:
            pixels = decode(file)
            disk_seconds = file.disk_seconds
    except Exception as error:  # also a MemoryError: one image must not end a run
        pixels = error
    return LoadedImage(image, pixels, disk_seconds, time.perf_counter() - start - disk_seconds)
