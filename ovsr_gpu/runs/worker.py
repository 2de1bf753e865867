"""Label images on one device: take batches of images, write their files and return their rows.

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
from ovsr_gpu.pipeline import PendingPrediction, Pipeline
from ovsr_gpu.results import Prediction
from ovsr_gpu.run_lengths import RunLengthEncoder
from ovsr_gpu.runs.wait_stats import WaitStats
from ovsr_gpu.runtime.callbacks import Log, no_log
from ovsr_gpu.runtime.interleave import delayed
from ovsr_gpu.runtime.threads import NUM_WORKERS
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.loading import Decoder, LoadedBatch, LoadedImage, load_batches
from ovsr_gpu.store.record import ImageWriter, LabelledImage, PendingRecords
from ovsr_gpu.store.schema import Failure, LabelledBatch, regions_table
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

    def __init__(self, pipeline: Pipeline, vocabulary: Vocabulary, decode: Decoder = decode_image) -> None:
        self.vocabulary = vocabulary
        self._pipeline, self._decode = pipeline, decode

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on, see `Pipeline.describe`."""
        return self._pipeline.describe()

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = no_log
    ) -> Generator[LabelledBatch, None, None]:
        """Yield the result of each batch, in order, once all files of its images are complete.

        An empty batch lets the batches before it finish, see `load_batches`.

        Args:
            batches: The images.
            outputs: The outputs to write during the run.
            log: Called with messages for the user.

        Yields:
            One result per batch.

        Raises:
            OSError: A file cannot be written.
            ModelError, VocabularyError: As the pipeline does.
            OvsrError: The device has failed and cannot be used any more.
        """
        pin_memory = self._pipeline.device.type == "cuda"
        loaded = load_batches(batches, decode=self._decode, pin_memory=pin_memory)
        with closing(loaded), ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="ovsr-files") as file_threads:
            steps = _LabellingSteps(
                self._pipeline, self.vocabulary, outputs.open_writers(self.vocabulary), file_threads, log
            )
            yield from steps.run(loaded)


@dataclass
class _BatchInFlight:
    """A batch, or a part of one, with the result of its last step."""

    images: list[LoadedImage]
    image_batch: Future[ImageBatch] | None
    """The readable images as one batch; None if they have not been collated yet."""
    is_last: bool
    """Whether the batch ends with this part."""
    pending: PendingPrediction | None = None
    prediction: Prediction | None = None
    encoder: RunLengthEncoder | None = None
    records: PendingRecords | None = None
    outcomes: list[Outcome] | None = None
    """One for each readable image, set once they are on the host."""
    table: Future[pa.Table] | None = None
    files: list[Future[None]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    num_labelled: int = 0
    num_decoded_on_device: int = 0

    @property
    def readable(self) -> list[LoadedImage]:
        return [image for image in self.images if isinstance(image.pixels, Tensor)]


class _LabellingSteps:
    """The steps of all batches of one call of `Worker.label`."""

    def __init__(
        self,
        pipeline: Pipeline,
        vocabulary: Vocabulary,
        writers: Sequence[ImageWriter],
        file_threads: ThreadPoolExecutor,
        log: Log,
    ) -> None:
        self._pipeline, self._vocabulary, self._writers = pipeline, vocabulary, writers
        self._file_threads, self._log = file_threads, log
        self._waits = WaitStats()
        self._max_images = sys.maxsize
        """Maximum number of images that go through the models together; reduced when the device runs out of memory."""

    def run(self, loaded: Iterable[LoadedBatch]) -> Iterator[LabelledBatch]:
        """Yield the result of each batch after all its steps."""
        parts = self._parts(self._waits.time_loading(loaded))
        segmented = map(self._segment, parts)
        recognized = map(self._recognize, delayed(segmented, 1))
        copied = map(self._copy_back, delayed(recognized, 1))
        written = map(self._write, delayed(copied, 1))
        finished = map(self._finish, delayed(written, 1))
        batch_parts: list[_BatchInFlight] = []
        for part in self._waits.time_models(finished):
            batch_parts.append(part)
            if part.is_last:
                yield _merge_parts(batch_parts, self._waits.take())
                batch_parts = []

    def _parts(self, loaded: Iterable[LoadedBatch]) -> Iterator[_BatchInFlight]:
        """Yield the batches in parts of at most `_max_images` images."""
        for batch in loaded:
            start, is_done = 0, False
            while not is_done:
                images = batch.images[start : start + self._max_images]  # the limit may change between two parts
                start += len(images)
                is_done = start == len(batch.images)
                whole = batch.image_batch if len(images) == len(batch.images) else None
                yield _BatchInFlight(images, whole, batch.is_last and is_done)

    def _segment(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 1: start stage 1 of the method (segmentation)."""
        if batch.readable:
            self._attempt(self._begin, batch)
        else:
            batch.outcomes = []
        return batch

    def _recognize(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 2: once the number of regions has arrived, start stage 2 (recognition)."""
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
        batch.outcomes = None  # free the memory for the next batches
        records = [outcome for outcome in outcomes if isinstance(outcome, LabelledImage)]
        batch.failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        batch.num_labelled = len(records)
        batch.table = self._file_threads.submit(regions_table, records)
        batch.files = [
            self._file_threads.submit(writer.write, record) for record in records for writer in self._writers
        ]
        return batch

    def _finish(self, batch: _BatchInFlight) -> _BatchInFlight:
        """Step 5: wait until the files are complete."""
        assert batch.table is not None
        self._waits.wait_for_files([batch.table, *batch.files])
        batch.num_decoded_on_device = sum(image.on_device for image in batch.images)
        batch.images = []  # free the pixels before the rest of the batch is done
        return batch

    def _begin(self, batch: _BatchInFlight) -> None:
        images = _pixels(batch.readable) if batch.image_batch is None else batch.image_batch.result()
        batch.image_batch = None
        batch.pending = self._pipeline.begin(ImageBatch.of(images, self._pipeline.device), self._vocabulary)

    def _predict(self, batch: _BatchInFlight) -> None:
        assert batch.pending is not None
        batch.prediction = batch.pending.finish()
        batch.pending = None
        batch.encoder = RunLengthEncoder([*batch.prediction.region_map], batch.prediction.regions)

    def _start_copies(self, batch: _BatchInFlight) -> None:
        assert batch.prediction is not None and batch.encoder is not None
        readable = batch.readable
        sources = [image.source for image in readable]
        batch.records = PendingRecords(batch.prediction, batch.encoder.encode(), sources, _pixels(readable))
        batch.prediction = batch.encoder = None

    def _read_records(self, batch: _BatchInFlight) -> None:
        assert batch.records is not None
        batch.outcomes = [*batch.records.wait()]
        batch.records = None

    def _attempt(self, step: Callable[[_BatchInFlight], None], batch: _BatchInFlight) -> None:
        """Run a step; if it fails, label the images of the batch in smaller groups, all steps at once."""
        if batch.outcomes is not None:
            return
        fault = self._fault_of(step, batch)
        if fault is not None:
            batch.pending = batch.prediction = batch.encoder = batch.records = batch.image_batch = None
            batch.outcomes = self._label_halves(batch.readable, fault)

    def _fault_of(self, step: Callable[[_BatchInFlight], None], batch: _BatchInFlight) -> _Fault | None:
        """Run a step and return what went wrong, without the traceback, whose frames would keep device memory alive.

        Errors that end a run are raised.
        """
        try:
            step(batch)
        except FATAL:
            raise
        except torch.AcceleratorError as error:
            raise OvsrError(
                f"the device {str(self._pipeline.device)!r} has failed ({error}); "
                "finished images are kept, and the run can be resumed"
            ) from error
        except Exception as error:
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
            return _Fault(out_of_memory, f"{type(error).__name__}: {error}")
        return None

    def _label_halves(self, images: Sequence[LoadedImage], fault: _Fault) -> list[Outcome]:
        """Return one outcome per image of a group that failed: try halves until the images that fail are found."""
        if fault.out_of_memory:
            self._make_room(len(images))
        if len(images) > 1:
            halves = images[: len(images) // 2], images[len(images) // 2 :]
            return [outcome for half in halves for outcome in self._label_alone(half)]
        if fault.out_of_memory:
            return self._label_alone(images, last_try=True)
        return [_unsegmentable(images[0], fault)]

    def _label_alone(self, images: Sequence[LoadedImage], *, last_try: bool = False) -> list[Outcome]:
        """Run all steps of the models on a group of images, one after the other."""
        batch = _BatchInFlight([*images], None, is_last=True)
        for step in (self._begin, self._predict, self._start_copies, self._read_records):
            fault = self._fault_of(step, batch)
            if fault is not None:
                del batch
                return [_unsegmentable(images[0], fault)] if last_try else self._label_halves(images, fault)
        assert batch.outcomes is not None
        return batch.outcomes

    def _make_room(self, num_images: int) -> None:
        """Halve the batch sizes after `num_images` images did not fit into memory."""
        self._max_images = min(self._max_images, max(1, num_images // 2))
        self._pipeline.halve_batches()
        self._log(
            f"Out of memory: continuing with {self._max_images} images at a time and smaller batches in the networks"
        )


@dataclass(frozen=True)
class _Fault:
    """Why a group of images could not be labelled."""

    out_of_memory: bool
    reason: str


def _merge_parts(parts: Sequence[_BatchInFlight], waited: dict[str, float]) -> LabelledBatch:
    return LabelledBatch(
        pa.concat_tables(part.table.result() for part in parts if part.table is not None),
        [failure for part in parts for failure in part.failures],
        sum(part.num_labelled for part in parts),
        waited,
        sum(part.num_decoded_on_device for part in parts),
    )


def _pixels(images: Sequence[LoadedImage]) -> list[Tensor]:
    return [image.pixels for image in images if isinstance(image.pixels, Tensor)]


def _unsegmentable(image: LoadedImage, fault: _Fault) -> Failure:
    return _failure(image, "segment", f"cannot segment {str(image.source.path)!r}: {fault.reason}")


def _failure(image: LoadedImage, stage: str, reason: str) -> Failure:
    return Failure(image.source.name, str(image.source.path), stage, reason)
