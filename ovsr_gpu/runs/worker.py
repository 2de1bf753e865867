"""Labelling on one device: batches of images in, their files and rows out.

A batch goes through five steps, each one batch behind the step before it:

    segment -> recognize -> copy back -> write -> finish

While the device computes for one batch, the batch before it is copied to the host, and files of earlier batches are
written. `sources.loading` decodes the batches that come next.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ovsr_gpu.errors import ModelError, OvsrError, VocabularyError
from ovsr_gpu.export.outputs import Outputs
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.pipeline import BegunPrediction, Pipeline
from ovsr_gpu.results import Prediction
from ovsr_gpu.run_lengths import Masks
from ovsr_gpu.runs.wait_stats import WaitStats
from ovsr_gpu.runtime.callbacks import Log, no_log
from ovsr_gpu.runtime.interleave import delayed
from ovsr_gpu.runtime.threads import WORKERS
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.loading import Decode, LoadedBatch, LoadedImage, load_batches
from ovsr_gpu.store.record import LabelledImage, PendingRecords, Writer
from ovsr_gpu.store.store import Failure, LabelledBatch, table_of
from ovsr_gpu.vocabulary import Vocabulary

FATAL = (ModelError, VocabularyError)
"""Errors that every image would raise."""

Outcome = LabelledImage | Failure


class Worker:
    """Labels images with one pipeline and one vocabulary; see `session.Engine`.

    Args:
        pipeline: The networks and their configuration.
        vocabulary: The classes.
        decode: Called by several threads, see `load_batches`.
    """

    num_workers = 1

    def __init__(self, pipeline: Pipeline, vocabulary: Vocabulary, decode: Decode = decode_image) -> None:
        self.vocabulary = vocabulary
        self._pipeline, self._decode = pipeline, decode

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on, see `Pipeline.describe`."""
        return self._pipeline.describe()

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = no_log
    ) -> Generator[LabelledBatch, None, None]:
        """Yield the result of each batch, in order, once all files of its images are complete.

        An empty batch pushes the batches before it on, see `load_batches`.

        Raises:
            OSError: The first write that fails.
            ModelError, VocabularyError: As the pipeline does.
            OvsrError: The device has failed for good.
        """
        pinned = self._pipeline.device.type == "cuda"
        loaded = load_batches(batches, decode=self._decode, pinned=pinned)
        with closing(loaded), ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-files") as file_threads:
            lane = _Lane(self._pipeline, self.vocabulary, outputs.open(self.vocabulary), file_threads, log)
            yield from lane.run(loaded)


@dataclass
class _BatchInFlight:
    """A batch, or a part of one, and what its last step has left."""

    images: list[LoadedImage]
    canvas: Future[ImageBatch] | None
    """The readable images as one batch; None if they are still to be put together."""
    is_last: bool
    """Whether the batch ends with this part."""
    begun: BegunPrediction | None = None
    prediction: Prediction | None = None
    masks: Masks | None = None
    records: PendingRecords | None = None
    outcomes: list[Outcome] | None = None
    """One for each readable image, set once they are on the host."""
    table: Future[pa.Table] | None = None
    files: list[Future[None]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    labelled: int = 0

    @property
    def readable(self) -> list[LoadedImage]:
        return [image for image in self.images if isinstance(image.pixels, Tensor)]


class _Lane:
    """The steps of all batches of one call of `Worker.label`."""

    def __init__(
        self,
        pipeline: Pipeline,
        vocabulary: Vocabulary,
        writers: Sequence[Writer],
        file_threads: ThreadPoolExecutor,
        log: Log,
    ) -> None:
        self._pipeline, self._vocabulary, self._writers = pipeline, vocabulary, writers
        self._file_threads, self._log = file_threads, log
        self._waits = WaitStats()
        self._max_images = sys.maxsize
        """Images that go through the models together: fewer once the device has run out of memory."""

    def run(self, loaded: Iterable[LoadedBatch]) -> Iterator[LabelledBatch]:
        """Take the batches through all steps."""
        parts = self._parts(self._waits.loading(loaded))
        segmented = map(self._segment, parts)
        recognized = map(self._recognize, delayed(segmented, 1))
        copied = map(self._copy_back, delayed(recognized, 1))
        written = map(self._write, delayed(copied, 1))
        finished = map(self._finish, delayed(written, 1))
        whole: list[_BatchInFlight] = []
        for part in self._waits.models(finished):
            whole.append(part)
            if part.is_last:
                yield _joined(whole, self._waits.take())
                whole = []

    def _parts(self, loaded: Iterable[LoadedBatch]) -> Iterator[_BatchInFlight]:
        """Yield the batches in parts that the device has memory for."""
        for batch in loaded:
            if len(batch.images) <= self._max_images:
                yield _BatchInFlight(batch.images, batch.canvas, batch.is_last)
                continue
            for start in range(0, len(batch.images), self._max_images):
                images = batch.images[start : start + self._max_images]
                is_last = batch.is_last and start + len(images) == len(batch.images)
                yield _BatchInFlight(images, None, is_last)

    def _segment(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 1: start stage 1 of the method."""
        if batch.readable:
            self._attempt(self._begin, batch)
        else:
            batch.outcomes = []
        return batch

    def _recognize(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 2: once the number of regions has arrived, start stage 2."""
        self._attempt(self._predict, batch)
        return batch

    def _copy_back(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 3: start the copies to the host."""
        self._attempt(self._start_copies, batch)
        return batch

    def _write(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 4: once the copies have arrived, start to write the files."""
        self._attempt(self._read_records, batch)
        assert batch.outcomes is not None
        in_order = iter(batch.outcomes)
        outcomes = [
            _failure(image, "decode", str(image.pixels)) if isinstance(image.pixels, Exception) else next(in_order)
            for image in batch.images
        ]
        batch.outcomes = None  # the next batches need the memory
        records = [outcome for outcome in outcomes if isinstance(outcome, LabelledImage)]
        batch.failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        batch.labelled = len(records)
        batch.table = self._file_threads.submit(table_of, records)
        batch.files = [
            self._file_threads.submit(writer.write, record) for record in records for writer in self._writers
        ]
        return batch

    def _finish(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 5: wait until the files are complete."""
        assert batch.table is not None
        self._waits.writing([batch.table, *batch.files])
        return batch

    def _begin(self, batch: _BatchInFlight) -> None:
        if batch.canvas is not None:
            images = batch.canvas.result()
        else:
            images = ImageBatch.of(_pixels(batch.readable), self._pipeline.device)
        batch.canvas = None
        batch.begun = self._pipeline.begin(images, self._vocabulary)

    def _predict(self, batch: _BatchInFlight) -> None:
        assert batch.begun is not None
        batch.prediction = batch.begun.finish()
        batch.begun = None
        batch.masks = Masks([*batch.prediction.region_map], batch.prediction.regions)

    def _start_copies(self, batch: _BatchInFlight) -> None:
        assert batch.prediction is not None and batch.masks is not None
        readable = batch.readable
        sources = [image.source for image in readable]
        batch.records = PendingRecords(batch.prediction, batch.masks.encode(), sources, _pixels(readable))
        batch.prediction = batch.masks = None

    def _read_records(self, batch: _BatchInFlight) -> None:
        assert batch.records is not None
        batch.outcomes = [*batch.records.wait()]
        batch.records = None

    def _attempt(self, step: Callable[[_BatchInFlight], None], batch: _BatchInFlight) -> None:
        """Take a step; if it fails, label the images of the batch in smaller groups at once."""
        if batch.outcomes is not None:
            return
        fault = self._fault_of(step, batch)
        if fault is not None:
            batch.begun = batch.prediction = batch.masks = batch.records = batch.canvas = None
            batch.outcomes = self._label_halves(batch.readable, fault)

    def _fault_of(self, step: Callable[[_BatchInFlight], None], batch: _BatchInFlight) -> _Fault | None:
        """Take a step and return what went wrong. The traceback, and device memory that its frames hold, is gone then.

        Raises the errors that end a run.
        """
        try:
            step(batch)
        except FATAL:
            raise
        except torch.AcceleratorError as error:
            raise OvsrError(
                f"the device {str(self._pipeline.device)!r} has failed ({error}); "
                "what was labelled before stays, and a resumed run goes on with it"
            ) from error
        except Exception as error:
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
            return _Fault(out_of_memory, f"{type(error).__name__}: {error}")
        return None

    def _label_halves(self, images: Sequence[LoadedImage], fault: _Fault) -> list[Outcome]:
        """Return one outcome for each image of a group that failed: halves are tried until it is clear which fail."""
        if fault.out_of_memory:
            self._make_room(len(images))
        if len(images) > 1:
            halves = images[: len(images) // 2], images[len(images) // 2 :]
            return [outcome for half in halves for outcome in self._label_alone(half)]
        if fault.out_of_memory:
            return self._label_alone(images, last_try=True)
        return [_unsegmentable(images[0], fault)]

    def _label_alone(self, images: Sequence[LoadedImage], *, last_try: bool = False) -> list[Outcome]:
        """Take a group of images through the steps of the models without a pause."""
        batch = _BatchInFlight([*images], None, is_last=True)
        for step in (self._begin, self._predict, self._start_copies, self._read_records):
            fault = self._fault_of(step, batch)
            if fault is not None:
                del batch
                return [_unsegmentable(images[0], fault)] if last_try else self._label_halves(images, fault)
        assert batch.outcomes is not None
        return batch.outcomes

    def _make_room(self, tried: int) -> None:
        self._max_images = max(1, tried // 2)
        self._pipeline.halve_batches()
        self._log(
            f"Out of memory: going on with {self._max_images} images at a time and smaller batches in the networks"
        )


@dataclass(frozen=True)
class _Fault:
    """Why a group of images could not be labelled."""

    out_of_memory: bool
    reason: str


def _joined(parts: Sequence[_BatchInFlight], waited: dict[str, float]) -> LabelledBatch:
    return LabelledBatch(
        pa.concat_tables(part.table.result() for part in parts if part.table is not None),
        [failure for part in parts for failure in part.failures],
        sum(part.labelled for part in parts),
        waited,
        sum(image.on_device for part in parts for image in part.images),
    )


def _pixels(images: Sequence[LoadedImage]) -> list[Tensor]:
    return [image.pixels for image in images if isinstance(image.pixels, Tensor)]


def _unsegmentable(image: LoadedImage, fault: _Fault) -> Failure:
    return _failure(image, "segment", f"cannot segment {str(image.source.path)!r}: {fault.reason}")


def _failure(image: LoadedImage, stage: str, reason: str) -> Failure:
    return Failure(image.source.name, str(image.source.path), stage, reason)
