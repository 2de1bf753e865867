"""All outputs of a run together, written by threads beside the model."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from ovsr_gpu.export.coco import CocoWriter
from ovsr_gpu.export.jsonl import JsonlWriter
from ovsr_gpu.export.overlay import OverlayWriter
from ovsr_gpu.export.palette import PaletteWriter
from ovsr_gpu.export.record import LabelledPicture, Writer
from ovsr_gpu.stages.vocabulary import Vocabulary

WORKERS = min(8, os.cpu_count() or 1)
PIXEL_BUDGET = 128_000_000
LEAST_WEIGHT = 500_000
"""Pixels of finished pictures that may wait to be written, and what a small picture counts for among them."""


def open_writers(out: Path, vocabulary: Vocabulary) -> list[Writer]:
    """The writers of all formats, in the order in which the ordered ones take a picture."""
    return [
        PaletteWriter(out, vocabulary),
        OverlayWriter(out, vocabulary.names),
        CocoWriter(out, vocabulary.names),
        JsonlWriter(out, vocabulary.names),
    ]


class Results:
    """A context manager that hands finished pictures to the writers and waits for them, and closes them, at its end.

    A picture reaches `regions.jsonl` once its own files are complete. The first write that fails is raised by a later
    `write` or at the end, and no picture is taken after it; what was written before stays.
    """

    def __init__(self, writers: list[Writer]) -> None:
        self._writers = writers
        self._files = ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-files")
        self._sequence = ThreadPoolExecutor(1, thread_name_prefix="ovsr-sequence")
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._failed = False

    def write(self, record: LabelledPicture) -> None:
        """Queue one picture, waiting while too much is queued."""
        self._finish_waiting(PIXEL_BUDGET)
        files = [self._files.submit(writer.write, record) for writer in self._writers if not writer.ordered]
        weight = max(record.class_map.size, LEAST_WEIGHT)
        self._waiting.append((weight, self._sequence.submit(self._complete, record, files)))

    def _complete(self, record: LabelledPicture, files: list[Future[None]]) -> None:
        if self._failed:
            return
        try:
            for file in files:
                file.result()
            for writer in self._writers:
                if writer.ordered:
                    writer.write(record)
        except BaseException:
            self._failed = True
            raise

    def _finish_waiting(self, budget: int) -> None:
        while sum(weight for weight, _ in self._waiting) > budget:
            self._waiting.popleft()[1].result()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as last_to_first:
            for writer in reversed(self._writers):
                last_to_first.callback(writer.close)
            last_to_first.callback(self._sequence.shutdown)
            last_to_first.callback(self._files.shutdown)
            last_to_first.callback(self._finish_waiting, 0)
