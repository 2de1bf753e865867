"""A labelling run: pictures in, label maps, overlays and annotations out, bad pictures told apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from torch import Tensor

from ovsr_gpu.environment import versions
from ovsr_gpu.errors import ModelError, OvsrError, VocabularyError
from ovsr_gpu.export.atomic import write_json
from ovsr_gpu.export.jsonl import LineFile
from ovsr_gpu.export.record import Array, LabelledPicture, LateRecords
from ovsr_gpu.export.results import Results, open_writers
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.files import Picture
from ovsr_gpu.sources.loading import Decode, LoadedBatch, LoadedPicture, load_batches
from ovsr_gpu.stages.vocabulary import SOMETHING_ELSE, Vocabulary
from ovsr_gpu.turns import Task, in_turns

if TYPE_CHECKING:
    from ovsr_gpu.pipeline import Images, Segmenter

RESULT_FOLDERS = ("labels", "overlays")
RESULT_FILES = ("classes.json", "regions.jsonl", "coco.json", "errors.jsonl", "summary.json")
SHOWN_FAILURES = 5
FATAL = (ModelError, VocabularyError)
"""What would fail for every picture."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """A picture that could not be labelled; `stage` is "decode" or "segment"."""

    path: Path
    stage: str
    reason: str


Outcome = LabelledPicture | Failure


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    pictures: how many were to be labelled; fewer are `labelled` or `failed` where the run was `interrupted`.
    decoded_on_device: those of `pictures` that were decoded on a GPU.
    seconds: wall time without loading the models. time_shares: for what the run waited in that time: "disk",
        "decoding", "models", and "writing" with all the rest; these go on side by side, so each share is what the
        others did not cover, and the largest is the bottleneck. area_shares: share of all labelled pixels, by class
        name.
    failures: the first few.
    """

    pictures: int
    labelled: int
    failed: int
    regions: int
    decoded_on_device: int
    seconds: float
    pictures_per_second: float
    time_shares: dict[str, float]
    area_shares: dict[str, float]
    failures: tuple[Failure, ...]
    interrupted: bool


def label_pictures(
    segmenter: Segmenter,
    pictures: Sequence[Picture],
    vocabulary: Vocabulary,
    out: Path,
    *,
    batch_size: int = 8,
    decode: Decode = decode_picture,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RunSummary:
    """Label pictures and write all results into the folder `out`.

    While one batch is in the models the one before it is on its way to the host and the next one is being gathered;
    `decode` is called by several threads, see `load_batches`.
    A picture that cannot be read or segmented goes to `errors.jsonl` and the run goes on. Ctrl-C ends it with
    KeyboardInterrupt after everything finished so far is written. `progress` is called with the number of pictures
    done and of all pictures.

    Raises ValueError where `out` holds the results of an earlier run and `overwrite` is not set, OvsrError where
    results cannot be written (those written before stay), ModelError and VocabularyError as the segmenter does.
    """
    prepare_output(out, overwrite)
    for name in RESULT_FILES:
        (out / name).unlink(missing_ok=True)
    tally = _Tally(len(pictures), np.zeros(len(vocabulary.names) + 1, np.int64))
    try:
        try:
            _run(segmenter, pictures, vocabulary, out, batch_size, decode, tally, progress)
        except KeyboardInterrupt:
            _write_summary(out, tally.summary(vocabulary, interrupted=True), segmenter)
            raise
        summary = tally.summary(vocabulary, interrupted=False)
        _write_summary(out, summary, segmenter)
    except OSError as error:  # reading and segmenting handle their own
        raise OvsrError(
            f"the results cannot be written to {str(out)!r} ({error.strerror or error}); "
            "what was written before stays, make room and label the rest into another folder"
        ) from error
    return summary


def prepare_output(out: Path, overwrite: bool) -> None:
    """Make the folder `out` and see that results can be written there; see `label_pictures` for the errors."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output {str(out)!r} is a file; name a folder")
    held = [name for name in RESULT_FILES if (out / name).exists()]
    held += [f"{name}/" for name in RESULT_FOLDERS if (out / name).is_dir() and any((out / name).iterdir())]
    if held and not overwrite:
        raise ValueError(
            f"the output folder {str(out)!r} already holds {', '.join(held)}; name another folder, or pass --overwrite "
            "(overwrite=True) to replace the results of an earlier run"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise OvsrError(f"the output folder {str(out)!r} cannot be written to ({error.strerror})") from error


def _run(
    segmenter: Segmenter,
    pictures: Sequence[Picture],
    vocabulary: Vocabulary,
    out: Path,
    batch_size: int,
    decode: Decode,
    tally: _Tally,
    progress: Callable[[int, int], None] | None,
) -> None:
    errors = LineFile(out / "errors.jsonl")
    pinned = segmenter.device.type == "cuda"
    try:
        with (
            closing(load_batches(pictures, batch_size, decode=decode, pinned=pinned)) as batches,
            Results(open_writers(out, vocabulary)) as results,
        ):
            tasks = (_label_batch(segmenter, batch, vocabulary) for batch in tally.loaded(batches))
            for outcomes in tally.finished(in_turns(tasks)):
                for outcome in outcomes:
                    if isinstance(outcome, Failure):
                        errors.append([{**asdict(outcome), "path": str(outcome.path)}])
                    else:
                        results.write(outcome)
                    tally.add(outcome)
                if progress is not None:
                    progress(tally.labelled + tally.failed, tally.pictures)
    finally:
        errors.close()


def _label_batch(segmenter: Segmenter, batch: LoadedBatch, vocabulary: Vocabulary) -> Task[list[Outcome]]:
    """One outcome a picture, in the order of the batch."""
    readable = [loaded for loaded in batch.pictures if isinstance(loaded.pixels, Tensor)]
    segmented: Sequence[Outcome] = []
    try:
        if readable:
            segmented = yield from _label_together(segmenter, batch.canvas.result(), readable, vocabulary)
    except FATAL:
        raise
    except Exception:
        pass
    # Outside of the handler: the traceback, and the device memory that its frames hold, is gone by now.
    if not segmented:
        segmented = [_label_alone(segmenter, loaded, vocabulary) for loaded in readable]
    in_order = iter(segmented)
    return [
        Failure(loaded.picture.path, "decode", str(loaded.pixels))
        if isinstance(loaded.pixels, Exception)
        else next(in_order)
        for loaded in batch.pictures
    ]


def _label_together(
    segmenter: Segmenter, images: Images, loaded: Sequence[LoadedPicture], vocabulary: Vocabulary
) -> Task[list[LabelledPicture]]:
    prediction = yield from segmenter.predict(images, vocabulary)
    pixels = [one.pixels for one in loaded if isinstance(one.pixels, Tensor)]
    records = LateRecords(prediction, [one.picture for one in loaded], pixels)
    yield
    return records.wait()


def _label_alone(segmenter: Segmenter, loaded: LoadedPicture, vocabulary: Vocabulary) -> Outcome:
    assert isinstance(loaded.pixels, Tensor)
    try:
        [[record]] = in_turns([_label_together(segmenter, [loaded.pixels], [loaded], vocabulary)])
    except FATAL:
        raise
    except Exception as error:
        path = loaded.picture.path
        return Failure(path, "segment", f"cannot segment {str(path)!r}: {type(error).__name__}: {error}")
    return record


@dataclass
class _Tally:
    """The running counts of a run."""

    pictures: int
    areas: Array
    labelled: int = 0
    failed: int = 0
    regions: int = 0
    failures: list[Failure] = field(default_factory=list)
    decoded_on_device: int = 0
    waited: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("disk", "decoding", "models"), 0.0))
    start: float = field(default_factory=time.perf_counter)

    def loaded(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """The batches, with the time waited for each shared out between disk and decoding as the threads spent it."""
        for seconds, batch in _timed(batches):
            disk = sum(loaded.disk_seconds for loaded in batch.pictures)
            decoding = sum(loaded.decode_seconds for loaded in batch.pictures)
            share = disk / (disk + decoding)
            self.waited["disk"] += seconds * share
            self.waited["decoding"] += seconds * (1 - share)
            self.decoded_on_device += sum(loaded.on_device for loaded in batch.pictures)
            yield batch

    def finished(self, batches: Iterator[list[Outcome]]) -> Iterator[list[Outcome]]:
        """The outcomes, with the time waited for each put down to the models, but for what `loaded` waited in it."""
        reading = 0.0
        for seconds, outcomes in _timed(batches):
            before, reading = reading, self.waited["disk"] + self.waited["decoding"]
            self.waited["models"] += seconds - (reading - before)
            yield outcomes

    def add(self, outcome: LabelledPicture | Failure) -> None:
        if isinstance(outcome, Failure):
            self.failed += 1
            if len(self.failures) < SHOWN_FAILURES:
                self.failures.append(outcome)
        else:
            self.labelled += 1
            self.regions += len(outcome.areas)
            np.add.at(self.areas, outcome.class_index, outcome.areas)

    def summary(self, vocabulary: Vocabulary, *, interrupted: bool) -> RunSummary:
        seconds = time.perf_counter() - self.start
        waited = self.waited | {"writing": seconds - sum(self.waited.values())}
        shares = self.areas / max(self.areas.sum(), 1)
        names = [*vocabulary.names, SOMETHING_ELSE]
        return RunSummary(
            pictures=self.pictures,
            labelled=self.labelled,
            failed=self.failed,
            regions=self.regions,
            decoded_on_device=self.decoded_on_device,
            seconds=round(seconds, 3),
            pictures_per_second=round(self.labelled / seconds, 3),
            time_shares={what: round(part / seconds, 3) for what, part in waited.items()},
            area_shares={name: round(share, 6) for name, share in zip(names, shares.tolist(), strict=True)},
            failures=tuple(self.failures),
            interrupted=interrupted,
        )


def _timed(items: Iterator[Item]) -> Iterator[tuple[float, Item]]:
    """Each item, after the seconds that it was waited for."""
    start = time.perf_counter()
    for item in items:
        yield time.perf_counter() - start, item
        start = time.perf_counter()


def _write_summary(out: Path, summary: RunSummary, segmenter: Segmenter) -> None:
    content = {name: value for name, value in asdict(summary).items() if name != "failures"}
    content |= {"device": str(segmenter.device), "versions": versions(), "config": asdict(segmenter.config)}
    write_json(out / "summary.json", content)
