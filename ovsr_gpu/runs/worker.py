"""Labelling on one device: batches of images in, their files and rows out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import Tensor

from ovsr_gpu.errors import ModelError, OvsrError, VocabularyError
from ovsr_gpu.export.outputs import Outputs
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.run_lengths import Masks
from ovsr_gpu.runs.wait_stats import Waits
from ovsr_gpu.runtime.interleave import Task, in_turns
from ovsr_gpu.runtime.threads import WORKERS
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.loading import Decode, LoadedBatch, LoadedImage, load_batches
from ovsr_gpu.store.manifest import describe_segmenter
from ovsr_gpu.store.record import LabelledImage, PendingRecords, Writer
from ovsr_gpu.store.store import Failure, LabelledBatch, table_of
from ovsr_gpu.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovsr_gpu.pipeline import Segmenter

FATAL = (ModelError, VocabularyError)
"""What would fail for every image."""

Log = Callable[[str], None]
Outcome = LabelledImage | Failure


class Labeller:
    """Labels images with one Segmenter and one vocabulary; see `labelling.Engine`.

    decode: called by several threads, see `load_batches`.
    """

    workers = 1

    def __init__(self, segmenter: Segmenter, vocabulary: Vocabulary, decode: Decode = decode_image) -> None:
        self.vocabulary = vocabulary
        self._segmenter, self._decode = segmenter, decode

    def describe(self) -> dict[str, Any]:
        return describe_segmenter(self._segmenter)

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = lambda message: None
    ) -> Generator[LabelledBatch, None, None]:
        """What became of each batch, in order, once all files of its images are complete.

        While one batch is in the models the one before it is on its way to the host, that one's predecessor is being
        written, and the next one is gathered. An empty batch pushes those before it on, see `load_batches`.

        Raises what the first write that fails raises, ModelError and VocabularyError as the segmenter does, OvsrError
        where the device fails for good.
        """
        writers, waits, room = outputs.open(self.vocabulary), Waits(), _Room(log)
        whole: list[_Finished] = []
        loaded = load_batches(batches, decode=self._decode, pinned=self._segmenter.device.type == "cuda")
        with closing(loaded), ThreadPoolExecutor(WORKERS, thread_name_prefix="ovsr-files") as files:
            tasks = (self._finish(batch, writers, files, waits, room) for batch in waits.loading(loaded))
            for finished in waits.models(in_turns(tasks)):
                whole.append(finished)
                if finished.is_last:
                    yield _joined(whole, waits.take())
                    whole = []

    def _finish(
        self, batch: LoadedBatch, writers: Sequence[Writer], files: ThreadPoolExecutor, waits: Waits, room: _Room
    ) -> Task[_Finished]:
        outcomes = yield from self._segment(batch, room)
        records = [outcome for outcome in outcomes if isinstance(outcome, LabelledImage)]
        table = files.submit(table_of, records)
        written = [files.submit(writer.write, record) for record in records for writer in writers]
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        on_device = sum(loaded.on_device for loaded in batch.images)
        finished = _Finished(table, failures, len(records), on_device, batch.is_last)
        del outcomes, records  # the next batches need the memory
        yield
        waits.writing([table, *written])
        return finished

    def _segment(self, batch: LoadedBatch, room: _Room) -> Task[list[Outcome]]:
        """One outcome an image, in the order of the batch."""
        readable = [loaded for loaded in batch.images if isinstance(loaded.pixels, Tensor)]
        segmented: list[Outcome] = []
        while len(segmented) < len(readable):
            group = readable[len(segmented) :][: room.images]
            canvas = batch.canvas if len(group) == len(readable) else None
            segmented += yield from self._segment_group(group, canvas, room)
        in_order = iter(segmented)
        return [
            _failure(loaded.source, "decode", str(loaded.pixels))
            if isinstance(loaded.pixels, Exception)
            else next(in_order)
            for loaded in batch.images
        ]

    def _segment_group(
        self, group: Sequence[LoadedImage], canvas: Future[ImageBatch] | None, room: _Room, *, last_try: bool = False
    ) -> Task[list[Outcome]]:
        """One outcome an image; a group that fails is halved until it is clear which of its images do."""
        out_of_memory = False
        try:
            return [*(yield from self._segment_together(group, canvas))]
        except FATAL:
            raise
        except torch.AcceleratorError as error:
            raise OvsrError(
                f"the device {str(self._segmenter.device)!r} has failed ({error}); "
                "what was labelled before stays, and a resumed run goes on with it"
            ) from error
        except torch.OutOfMemoryError as error:
            out_of_memory, reason = True, f"{type(error).__name__}: {error}"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        # Outside of the handler: the traceback, and the device memory that its frames hold, is gone by now.
        if out_of_memory and not last_try:
            room.make(self._segmenter, len(group))
        if len(group) == 1:
            [loaded] = group
            if out_of_memory and not last_try:
                return [*(yield from self._segment_group(group, None, room, last_try=True))]
            return [_failure(loaded.source, "segment", f"cannot segment {str(loaded.source.path)!r}: {reason}")]
        outcomes: list[Outcome] = []
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            outcomes += yield from self._segment_group(half, None, room)
        return outcomes

    def _segment_together(
        self, group: Sequence[LoadedImage], canvas: Future[ImageBatch] | None
    ) -> Task[list[LabelledImage]]:
        pixels = [loaded.pixels for loaded in group if isinstance(loaded.pixels, Tensor)]
        prediction = yield from self._segmenter.predict(canvas.result() if canvas else pixels, self.vocabulary)
        masks = Masks([*prediction.region_map], prediction.regions)
        yield
        records = PendingRecords(prediction, masks.encode(), [loaded.source for loaded in group], pixels)
        yield
        return records.wait()


class _Room:
    """How many images go through the models together: fewer once they have run out of memory."""

    def __init__(self, log: Log) -> None:
        self.images = sys.maxsize
        self._log = log

    def make(self, segmenter: Segmenter, tried: int) -> None:
        self.images = max(1, tried // 2)
        segmenter.halve_batches()
        self._log(f"Out of memory: going on with {self.images} images at a time and smaller batches in the networks")


@dataclass(frozen=True)
class _Finished:
    """A piece of a batch, see `LoadedBatch`."""

    table: Future[pa.Table]
    failures: list[Failure]
    labelled: int
    on_device: int
    is_last: bool


def _joined(pieces: Sequence[_Finished], waited: dict[str, float]) -> LabelledBatch:

    return LabelledBatch(
        pa.concat_tables(piece.table.result() for piece in pieces),
        [failure for piece in pieces for failure in piece.failures],
        sum(piece.labelled for piece in pieces),
        waited,
        sum(piece.on_device for piece in pieces),
    )


def _failure(image: ImageSource, stage: str, reason: str) -> Failure:
    return Failure(image.name, str(image.path), stage, reason)
