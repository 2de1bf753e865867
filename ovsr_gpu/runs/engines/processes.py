"""Several devices of one machine: a process for each, to which batches go as it becomes free."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from operator import itemgetter
from typing import Any

import torch

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.export.outputs import Outputs
from ovsr_gpu.runs.engines.job import Job
from ovsr_gpu.runtime.callbacks import Log, no_log
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.store import LabelledBatch

AHEAD = 8
"""Batches that a process has at most: those in its models, on their way to the disk, and being decoded."""

WINDOW = 16
"""Finished batches a process that may wait for one before them."""

IDLE_SECONDS = 0.05
"""After so long without a batch a process finishes those that it has."""

Batch = Sequence[ImageSource]
Numbered = tuple[int, Batch]


class Processes:
    """Labels with a process for each device; see `session.Engine`. It labels one run.

    A process that dies is not replaced: its images go to the others.

    Raises ModelError, VocabularyError and OvsrError as `Job.worker` does.
    """

    def __init__(self, job: Job, devices: Sequence[torch.device], log: Log) -> None:
        self.vocabulary = job.vocabulary
        self.num_workers = len(devices)
        self._alive = [_WorkerProcess(job, device, len(devices)) for device in devices]
        try:
            first, *others = [worker.ready(log) for worker in self._alive]
            if any(other != first for other in others):
                raise OvsrError("the devices do not run the same models in the same way; name devices of one kind")
        except BaseException:
            self.close()
            raise
        self._description = first

    def describe(self) -> dict[str, Any]:
        return self._description

    def label(
        self, batches: Iterable[Batch], outputs: Outputs, log: Log = no_log
    ) -> Generator[LabelledBatch, None, None]:
        """See `session.Engine`. Raises what a process raises, OvsrError when the last of them has died."""
        for worker in self._alive:
            worker.send(outputs)
        left = enumerate(batches)
        lost: list[Numbered] = []
        finished: dict[int, LabelledBatch] = {}
        number = 0
        try:
            while True:
                self._hand_out(lost, left, room=WINDOW * self.num_workers - len(finished))
                if not any(worker.batches for worker in self._alive):
                    break
                for worker in self._with_news():
                    try:
                        finished.update(worker.finished(log))
                    except EOFError:
                        lost = sorted([*lost, *self._mourn(worker, log)], key=itemgetter(0))
                while number in finished:
                    yield finished.pop(number)
                    number += 1
        finally:
            self.close()

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for worker in self._alive:
            worker.process.kill()
            worker.process.join()
        self._alive = []

    def _hand_out(self, lost: list[Numbered], left: Iterator[Numbered], room: int) -> None:
        """Give batches to whoever has the fewest, until all have enough: the lost ones first, for which others wait."""
        while lost or room > 0:
            worker = min(self._alive, key=lambda worker: len(worker.batches))
            batch = None if len(worker.batches) == AHEAD else lost.pop(0) if lost else next(left, None)
            if batch is None:
                return
            worker.give(batch)
            room -= 1

    def _with_news(self) -> list[_WorkerProcess]:
        speaking = wait([worker.connection for worker in self._alive])
        return [worker for worker in self._alive if worker.connection in speaking]

    def _mourn(self, worker: _WorkerProcess, log: Log) -> list[Numbered]:
        """The batches of a process that has died."""
        worker.process.join()
        self._alive.remove(worker)
        death = f"the process on {worker.device} has died (exit status {worker.process.exitcode})"
        if not self._alive:
            raise OvsrError(f"{death}, as all others before it; a resumed run goes on with what was labelled before")
        log(f"{death.capitalize()}: its images go to the others")
        return list(worker.batches)


class _WorkerProcess:
    """A process as its parent sees it, and the batches that it has, in the order in which it finishes them."""

    def __init__(self, job: Job, device: torch.device, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.batches: deque[Numbered] = deque()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, job, device, workers), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, message: object) -> None:
        with suppress(OSError):  # that it has died is heard where its answer is
            self.connection.send(message)

    def give(self, batch: Numbered) -> None:
        self.batches.append(batch)
        self.send(batch[1])

    def ready(self, log: Log) -> dict[str, Any]:
        """What it labels with, once it has loaded everything."""
        try:
            while True:
                for description in self._heard(log):
                    return description
        except EOFError as error:
            self.process.join()
            raise OvsrError(
                f"the process on {self.device} has died while it loaded the models (exit status "
                f"{self.process.exitcode})"
            ) from error

    def finished(self, log: Log) -> list[tuple[int, LabelledBatch]]:
        """The next batch that it has finished, if that is its news. Raises EOFError where it has died."""
        return [(self.batches.popleft()[0], batch) for batch in self._heard(log)]

    def _heard(self, log: Log) -> Iterator[Any]:
        try:
            message = self.connection.recv()
        except OSError as error:
            raise EOFError from error
        if isinstance(message, str):
            log(f"{self.device}: {message}")
        elif isinstance(message, Exception):
            raise message
        else:
            yield message


def _work(connection: Connection, job: Job, device: torch.device, workers: int) -> None:
    """The life of a process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a job; the parent decides what to do
        signal.signal(number, signal.SIG_IGN)
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        worker = job.worker(device, connection.send)
        connection.send(worker.describe())
        outputs = connection.recv()
        for labelled in worker.label(_received(connection), outputs, connection.send):
            if labelled.images:
                connection.send(labelled)
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone
    except Exception as error:
        kept = isinstance(error, (OvsrError, OSError))
        connection.send(error if kept else OvsrError(f"on {device}: {type(error).__name__}: {error}"))


def _received(connection: Connection) -> Iterator[Batch]:
    """The batches as they come, and empty ones while none does."""
    batches: queue.Queue[Batch | None] = queue.Queue()

    def receive() -> None:  # beside the labelling: the parent must never wait to be heard
        with suppress(EOFError, OSError):
            while True:
                batches.put(connection.recv())
        batches.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        try:
            batch = batches.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            batch = []
        if batch is None:
            return
        yield batch
