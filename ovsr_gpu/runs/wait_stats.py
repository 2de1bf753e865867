"""What the thread of the models waits for while it labels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ovsr_gpu.sources.loading import LoadedBatch

Item = TypeVar("Item")


class WaitStats:
    """Seconds waited for the disk, for decoding, for the models, for writing and else, since they were last taken."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(("disk", "decoding", "models", "writing", "other"), 0.0)

    def loading(self, batches: Iterable[LoadedBatch]) -> Iterator[LoadedBatch]:
        """The batches, with the time waited for each shared out between disk and decoding as the threads spent it.

        That for an empty one, which was no wait for images, is "other".
        """
        for seconds, batch in _timed(batches):
            disk = sum(loaded.disk_seconds for loaded in batch.images)
            decoding = sum(loaded.decode_seconds for loaded in batch.images)
            fraction = disk / (disk + decoding) if batch.images else 0.0
            self._seconds["disk"] += seconds * fraction
            self._seconds["decoding" if batch.images else "other"] += seconds * (1 - fraction)
            yield batch

    def writing(self, files: Iterable[Future[Any]]) -> None:
        """Wait for all of them. Raises what the first of them raised that did."""
        start = time.perf_counter()
        for file in files:
            file.result()
        self._seconds["writing"] += time.perf_counter() - start

    def models(self, finished: Iterable[Item]) -> Iterator[Item]:
        """The items, with the time waited for each put down to the models, but for what was counted else in it."""
        before = self._other()
        for seconds, item in _timed(finished):
            now = self._other()
            self._seconds["models"] += seconds - (now - before)
            yield item
            before = self._other()

    def take(self) -> dict[str, float]:
        """What there was since the last call."""
        taken = dict(self._seconds)
        self._seconds = dict.fromkeys(taken, 0.0)
        return taken

    def _other(self) -> float:
        return sum(self._seconds.values()) - self._seconds["models"]


def _timed(items: Iterable[Item]) -> Iterator[tuple[float, Item]]:
    """Each item, after the seconds that it was waited for."""
    start = time.perf_counter()
    for item in items:
        yield time.perf_counter() - start, item
        start = time.perf_counter()
