"""Measure what the models' thread waits for while it labels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ovsr_gpu.sources.loading import LoadedBatch

Item = TypeVar("Item")


class WaitStats:
    """Seconds waited for the disk, decoding, the models, writing and other causes, since the last `take`."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(("disk", "decoding", "models", "writing", "other"), 0.0)

    def time_loading(self, batches: Iterable[LoadedBatch]) -> Iterator[LoadedBatch]:
        """Yield the batches and count the time waited for each.

        The time is divided between "disk" and "decoding" in the proportion in which the loading threads spent it. The
        wait for an empty batch, which contains no images, counts as "other".
        """
        for seconds, batch in _timed(batches):
            disk = sum(loaded.disk_seconds for loaded in batch.images)
            decoding = sum(loaded.decode_seconds for loaded in batch.images)
            disk_fraction = disk / (disk + decoding) if batch.images else 0.0
            self._seconds["disk"] += seconds * disk_fraction
            self._seconds["decoding" if batch.images else "other"] += seconds * (1 - disk_fraction)
            yield batch

    def wait_for_files(self, files: Iterable[Future[Any]]) -> None:
        """Wait for all files and count the time as "writing".

        Raises:
            OSError: The error of the first file that failed.
        """
        start = time.perf_counter()
        for file in files:
            file.result()
        self._seconds["writing"] += time.perf_counter() - start

    def time_models(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items and count the time waited for each as "models", less what was counted otherwise meanwhile."""
        before = self._total_without_models()
        for seconds, item in _timed(items):
            after = self._total_without_models()
            self._seconds["models"] += seconds - (after - before)
            yield item
            before = self._total_without_models()

    def take(self) -> dict[str, float]:
        """Return the seconds by cause since the last call, and reset them."""
        taken = dict(self._seconds)
        self._seconds = dict.fromkeys(taken, 0.0)
        return taken

    def _total_without_models(self) -> float:
        return sum(self._seconds.values()) - self._seconds["models"]


def _timed(items: Iterable[Item]) -> Iterator[tuple[float, Item]]:
    """Yield each item with the seconds waited for it."""
    start = time.perf_counter()
    for item in items:
        yield time.perf_counter() - start, item
        start = time.perf_counter()
