"""All outputs of a run together, written by threads beside the model."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ovsr_gpu.export.overlay import OverlayWriter
from ovsr_gpu.export.palette import PaletteWriter
from ovsr_gpu.export.record import LabelledPicture, Writer
from ovsr_gpu.runs.store import Failure, StoreWriter, rows_of
from ovsr_gpu.stages.vocabulary import Vocabulary

WORKERS = min(8, os.cpu_count() or 1)
PIXEL_BUDGET = 128_000_000
LEAST_WEIGHT = 500_000
"""Pixels of finished pictures that may wait to be written, and what a small picture counts for among them."""


def open_writers(out: Path, vocabulary: Vocabulary) -> list[Writer]:
    """The writers of all formats that have a file a picture."""
    return [PaletteWriter(out, vocabulary), OverlayWriter(out, vocabulary.names)]


class Results:
    """A context manager that hands finished pictures to the writers and the store, and waits for them at its end.

    The store gets pictures and failures in their order, a picture once its own files are complete. The first write that
    fails is raised by a later `write` or at the end, and nothing is taken after it; what was written before stays.
    """

    def __init__(self, writers: Sequence[Writer], store: StoreWriter) -> None:
        self._writers, self._store = writers, store
        self._files = ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-files")
        self._sequence = ThreadPoolExecutor(1, thread_name_prefix="ovsr-sequence")
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._broken = False

    def write(self, outcome: LabelledPicture | Failure) -> None:
        """Queue one picture or failure, waiting while too much is queued."""
        self._finish_waiting(PIXEL_BUDGET)
        weight = LEAST_WEIGHT
        files: list[Future[Any]] = []
        if isinstance(outcome, LabelledPicture):
            weight = max(outcome.class_map.size, LEAST_WEIGHT)
            files = [self._files.submit(writer.write, outcome) for writer in self._writers]
            files.append(self._files.submit(rows_of, outcome))
        self._queue(weight, lambda: self._complete(outcome, files))

    def end_batch(self) -> None:
        """Let the store keep what was queued so far, as a point from which a run can go on."""
        self._queue(0, self._store.end_batch)

    def _queue(self, weight: int, step: Callable[[], None]) -> None:
        self._waiting.append((weight, self._sequence.submit(self._unless_broken, step)))

    def _unless_broken(self, step: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            step()
        except BaseException:
            self._broken = True
            raise

    def _complete(self, outcome: LabelledPicture | Failure, files: list[Future[Any]]) -> None:
        if isinstance(outcome, Failure):
            self._store.add(outcome)
        else:
            *_, rows = [file.result() for file in files]
            self._store.add(rows)

    def _finish_waiting(self, budget: int) -> None:
        while sum(weight for weight, _ in self._waiting) > budget:
            self._waiting.popleft()[1].result()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as last_to_first:
            last_to_first.callback(self._store.close)
            last_to_first.callback(self._sequence.shutdown)
            last_to_first.callback(self._files.shutdown)
            last_to_first.callback(self._finish_waiting, 0)
