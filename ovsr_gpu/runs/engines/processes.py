"""Label with several devices of one machine: one process per device, which gets new batches as it finishes others."""

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
from ovsr_gpu.store.schema import LabelledBatch

MAX_BATCHES_IN_FLIGHT = 8
"""Batches that a process has at most: being decoded, in its models, and being written."""

MAX_WAITING_BATCHES = 16
"""Finished batches per process that may wait for an earlier batch, since results are returned in order."""

IDLE_SECONDS = 0.05
"""After this time without a new batch, a process finishes the batches that it has."""

Batch = Sequence[ImageSource]
Numbered = tuple[int, Batch]


class ProcessEngine:
    """An engine with one process per device, see `session.Engine`. It can label one run.

    A process that dies is not replaced: its images are given to the others.

    Args:
        job: What every process loads.
        devices: One device per process.
        log: Called with messages for the user.

    Raises:
        ModelError, VocabularyError: As `Job.worker` does.
        OvsrError: As `Job.worker` does; a process died while loading; or the devices run different models.
    """

    def __init__(self, job: Job, devices: Sequence[torch.device], log: Log) -> None:
        self.vocabulary = job.vocabulary
        self.num_workers = len(devices)
        self._alive = [_WorkerProcess(job, device, len(devices)) for device in devices]
        try:
            first, *others = [worker.wait_until_ready(log) for worker in self._alive]
            if any(other != first for other in others):
                raise OvsrError("the devices do not run the same models in the same way; choose devices of one kind")
        except BaseException:
            self.close()
            raise
        self._description = first

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on, see `Worker.describe`."""
        return self._description

    def label(
        self, batches: Iterable[Batch], outputs: Outputs, log: Log = no_log
    ) -> Generator[LabelledBatch, None, None]:
        """Yield the result of each batch, in order, see `session.Engine`.

        Raises:
            OvsrError: The last process has died.
            Exception: An error that a process raises.
        """
        for worker in self._alive:
            worker.send(outputs)
        remaining = enumerate(batches)
        lost: list[Numbered] = []
        finished: dict[int, LabelledBatch] = {}
        next_number = 0
        try:
            while True:
                self._hand_out(lost, remaining, room=MAX_WAITING_BATCHES * self.num_workers - len(finished))
                if not any(worker.batches for worker in self._alive):
                    break
                for worker in self._with_messages():
                    try:
                        finished.update(worker.finished(log))
                    except EOFError:
                        lost = sorted([*lost, *self._remove_dead(worker, log)], key=itemgetter(0))
                while next_number in finished:
                    yield finished.pop(next_number)
                    next_number += 1
        finally:
            self.close()

    def close(self) -> None:
        """Kill the processes."""
        for worker in self._alive:
            worker.process.kill()
            worker.process.join()
        self._alive = []

    def _hand_out(self, lost: list[Numbered], remaining: Iterator[Numbered], room: int) -> None:
        """Give batches to the workers with the fewest until all have enough.

        Batches of dead processes come first, because finished batches wait for them.
        """
        while lost or room > 0:
            worker = min(self._alive, key=lambda worker: len(worker.batches))
            batch = (
                None if len(worker.batches) == MAX_BATCHES_IN_FLIGHT else lost.pop(0) if lost else next(remaining, None)
            )
            if batch is None:
                return
            worker.send_batch(batch)
            room -= 1

    def _with_messages(self) -> list[_WorkerProcess]:
        """Wait for a message, and return the workers that have sent one or have died."""
        ready = wait([worker.connection for worker in self._alive])
        return [worker for worker in self._alive if worker.connection in ready]

    def _remove_dead(self, worker: _WorkerProcess, log: Log) -> list[Numbered]:
        """Remove a process that has died and return its batches."""
        worker.process.join()
        self._alive.remove(worker)
        death = f"the process on {worker.device} has died (exit status {worker.process.exitcode})"
        if not self._alive:
            raise OvsrError(f"{death}, and so have all others; finished images are kept, and the run can be resumed")
        log(f"{death.capitalize()}: the other processes label its images")
        return list(worker.batches)


class _WorkerProcess:
    """A process as seen by its parent, and the batches that it has, in the order in which it finishes them."""

    def __init__(self, job: Job, device: torch.device, num_workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.batches: deque[Numbered] = deque()
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(target=_work, args=(child_connection, job, device, num_workers), daemon=True)
        self.process.start()
        child_connection.close()

    def send(self, message: object) -> None:
        with suppress(OSError):  # its death is noticed when its answer is read
            self.connection.send(message)

    def send_batch(self, batch: Numbered) -> None:
        self.batches.append(batch)
        self.send(batch[1])

    def wait_until_ready(self, log: Log) -> dict[str, Any]:
        """Wait until it has loaded everything, and return the description of its models."""
        try:
            while True:
                for description in self._receive(log):
                    return description
        except EOFError as error:
            self.process.join()
            raise OvsrError(
                f"the process on {self.device} has died while loading the models (exit status {self.process.exitcode})"
            ) from error

    def finished(self, log: Log) -> list[tuple[int, LabelledBatch]]:
        """Return the next batch that it has finished, or nothing if its message was another one.

        Raises EOFError if it has died.
        """
        return [(self.batches.popleft()[0], batch) for batch in self._receive(log)]

    def _receive(self, log: Log) -> Iterator[Any]:
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


def _work(connection: Connection, job: Job, device: torch.device, num_workers: int) -> None:
    """Label batches until the parent closes the connection; the main function of a process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a job; only the parent reacts
        signal.signal(number, signal.SIG_IGN)
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_workers))
    try:
        worker = job.worker(device, connection.send)
        connection.send(worker.describe())
        outputs = connection.recv()
        for labelled in worker.label(_receive_batches(connection), outputs, connection.send):
            if labelled.num_images:
                connection.send(labelled)
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone
    except Exception as error:
        is_known = isinstance(error, (OvsrError, OSError))
        connection.send(error if is_known else OvsrError(f"on {device}: {type(error).__name__}: {error}"))


def _receive_batches(connection: Connection) -> Iterator[Batch]:
    """Yield the batches as they come, and empty batches while there are none."""
    batches: queue.Queue[Batch | None] = queue.Queue()

    def receive() -> None:  # in a thread, so that the parent never blocks in send
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
