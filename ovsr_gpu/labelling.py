"""A labelling run: pictures in, label maps, overlays and annotations out, bad pictures told apart."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ovsr_gpu.environment import versions
from ovsr_gpu.errors import ModelError, OvsrError, VocabularyError
from ovsr_gpu.export.atomic import UNFINISHED, write_json
from ovsr_gpu.export.coco import write_coco
from ovsr_gpu.export.jsonl import LineFile, write_jsonl
from ovsr_gpu.export.record import LabelledPicture, LateRecords
from ovsr_gpu.export.results import Results, open_writers
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.runs.manifest import FILE, check_manifest, describe_run, write_manifest
from ovsr_gpu.runs.store import ANNOTATION, FOLDER, Failure, Store, StoreWriter
from ovsr_gpu.runs.summary import Outcome, RunSummary, Tally
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.loading import Decode, LoadedBatch, LoadedPicture, load_batches
from ovsr_gpu.sources.picture import Picture
from ovsr_gpu.stages.vocabulary import Vocabulary
from ovsr_gpu.turns import Task, in_turns

if TYPE_CHECKING:
    from ovsr_gpu.pipeline import Segmenter

RESULT_FOLDERS = ("labels", "overlays", FOLDER)
RESULT_FILES = ("classes.json", "regions.jsonl", "coco.json", "errors.jsonl", "summary.json", FILE)
FATAL = (ModelError, VocabularyError)
"""What would fail for every picture."""


def label_pictures(
    segmenter: Segmenter,
    pictures: Iterable[Picture],
    vocabulary: Vocabulary,
    out: Path,
    *,
    batch_size: int = 8,
    decode: Decode = decode_picture,
    overwrite: bool = False,
    resume: bool = False,
    max_errors: int | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda message: None,
) -> RunSummary:
    """Label pictures and write all results into the folder `out`.

    While one batch is in the models the one before it is on its way to the host and the next one is being gathered;
    `decode` is called by several threads, see `load_batches`. A picture that cannot be read or segmented goes to
    `errors.jsonl` and the run goes on.

    However a run ends, `resume` goes on with it: pictures that its store has are passed over, all others are labelled.
    Ctrl-C ends it with KeyboardInterrupt, and `stop`, asked before each batch, without an error; in both cases the
    results of what was finished are complete. What dies without a word loses the last part of the store at most.
    `progress` is called with the number of pictures done and of all pictures, None where nobody knows. Where the device
    runs out of memory the run goes on with half as much at a time, which `say` is told.

    Raises ValueError where `out` holds the results of an earlier run and neither `overwrite` nor `resume` is set, or
    the run to resume was made with something else; OvsrError where another run writes to `out`, results cannot be
    written (those written before stay), or more than `max_errors` pictures failed; ModelError and VocabularyError as
    the segmenter does.
    """
    prepare_output(out, overwrite=overwrite, resume=resume)
    description = describe_run(segmenter, vocabulary, batch_size)
    with _told_what_to_do(out), _alone(out):
        if resume and (out / FILE).exists():
            check_manifest(out, description)
            _remove_leftovers(out)
        else:
            _clear(out)
            write_manifest(out, description)
        store = Store(out)
        tally = Tally.of(store, vocabulary)
        done = store.names()
        left = (picture for picture in pictures if picture.name not in done)
        total = len(pictures) if isinstance(pictures, Sized) else None
        room = _Room(batch_size, say)
        interrupted = True
        try:
            with closing(LineFile(out / "errors.jsonl")) as errors:
                errors.append([_error_line(failure) for failure in store.failures()])
                batches = load_batches(left, batch_size, decode=decode, pinned=segmenter.device.type == "cuda")
                with closing(batches), Results(open_writers(out, vocabulary), StoreWriter(out)) as results:
                    tasks = (
                        _label_batch(segmenter, batch, vocabulary, room)
                        for batch in tally.loaded(tally.until(stop, batches))
                    )
                    for outcomes in tally.finished(in_turns(tasks)):
                        for outcome in outcomes:
                            results.write(outcome)
                            tally.add(outcome)
                            if isinstance(outcome, Failure):
                                errors.append([_error_line(outcome)])
                        results.end_batch()
                        progress(tally.done, total)
                        if max_errors is not None and tally.failed > max_errors:
                            raise OvsrError(
                                f"{tally.failed} pictures failed, more than the {max_errors} allowed, the last because "
                                f"{tally.last_failure}; see {out / 'errors.jsonl'}"
                            )
            interrupted = tally.stopped
        finally:
            summary = tally.summary(vocabulary, interrupted=interrupted)
            _write_results(out, segmenter, vocabulary, summary)
    return summary


def prepare_output(out: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Make the folder `out` and see that results can be written there; see `label_pictures` for the errors."""
    if overwrite and resume:
        raise ValueError("a run is either resumed or overwritten; leave out --overwrite or --resume")
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output {str(out)!r} is a file; name a folder")
    held = [name for name in RESULT_FILES if (out / name).exists()]
    held += [f"{name}/" for name in RESULT_FOLDERS if (out / name).is_dir() and any((out / name).iterdir())]
    if resume and held and FILE not in held:
        raise ValueError(f"the folder {str(out)!r} holds {', '.join(held)} but no {FILE}: there is no run to resume")
    if held and not overwrite and not resume:
        raise ValueError(
            f"the output folder {str(out)!r} already holds {', '.join(held)}; name another folder, or pass --resume "
            "(resume=True) to go on with that run, or --overwrite (overwrite=True) to replace its results"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise OvsrError(f"the output folder {str(out)!r} cannot be written to ({error.strerror})") from error


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other runs out of the folder; the lock dies with its process."""
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise OvsrError(f"another run is writing to {str(out)!r}; wait for it or name another folder") from error


@contextmanager
def _told_what_to_do(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # reading and segmenting handle their own
        raise OvsrError(
            f"the results cannot be written to {str(out)!r} ({error.strerror or error}); "
            "what was written before stays: make room and pass --resume (resume=True)"
        ) from error


def _clear(out: Path) -> None:
    for name in RESULT_FILES:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def _remove_leftovers(out: Path) -> None:
    """Files that a session which was killed had begun."""
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(UNFINISHED):
                os.unlink(os.path.join(folder, name))


def _error_line(failure: Failure) -> dict[str, str]:
    return {"path": failure.path, "stage": failure.stage, "reason": failure.reason}


def _write_results(out: Path, segmenter: Segmenter, vocabulary: Vocabulary, summary: RunSummary) -> None:
    """What is made from the whole store."""
    store = Store(out)
    write_jsonl(store.rows([*ANNOTATION, "probabilities"]), vocabulary.names, out / "regions.jsonl")
    write_coco(lambda: store.pictures(ANNOTATION), vocabulary.names, out / "coco.json")
    content = {name: value for name, value in asdict(summary).items() if name != "failures"}
    content |= {"device": str(segmenter.device), "versions": versions(), "config": asdict(segmenter.config)}
    write_json(out / "summary.json", content)


@dataclass
class _Room:
    """How many pictures go through the models together: fewer once they have run out of memory."""

    pictures: int
    say: Callable[[str], None]

    def make(self, segmenter: Segmenter, tried: int) -> None:
        self.pictures = max(1, tried // 2)
        segmenter.halve_batches()
        self.say(f"Out of memory: going on with {self.pictures} pictures at a time and smaller batches in the networks")


def _label_batch(segmenter: Segmenter, batch: LoadedBatch, vocabulary: Vocabulary, room: _Room) -> Task[list[Outcome]]:
    """One outcome a picture, in the order of the batch."""
    readable = [loaded for loaded in batch.pictures if isinstance(loaded.pixels, Tensor)]
    segmented: list[Outcome] = []
    while len(segmented) < len(readable):
        group = readable[len(segmented) :][: room.pictures]
        canvas = batch.canvas if len(group) == len(readable) else None
        segmented += yield from _label_group(segmenter, group, canvas, vocabulary, room)
    in_order = iter(segmented)
    return [
        _failure(loaded.picture, "decode", str(loaded.pixels))
        if isinstance(loaded.pixels, Exception)
        else next(in_order)
        for loaded in batch.pictures
    ]


def _label_group(
    segmenter: Segmenter,
    group: Sequence[LoadedPicture],
    canvas: Future[ImageBatch] | None,
    vocabulary: Vocabulary,
    room: _Room,
) -> Task[list[Outcome]]:
    """One outcome a picture; a group that fails is halved until it is clear which of its pictures do."""
    try:
        return [*(yield from _label_together(segmenter, canvas, group, vocabulary))]
    except FATAL:
        raise
    except torch.OutOfMemoryError:
        room.make(segmenter, len(group))
    except Exception:
        pass
    # Outside of the handler: the traceback, and the device memory that its frames hold, is gone by now.
    if len(group) == 1:
        return [_label_alone(segmenter, group[0], vocabulary)]
    halves = group[: len(group) // 2], group[len(group) // 2 :]
    outcomes: list[Outcome] = []
    for half in halves:
        outcomes += yield from _label_group(segmenter, half, None, vocabulary, room)
    return outcomes


def _label_together(
    segmenter: Segmenter,
    canvas: Future[ImageBatch] | None,
    loaded: Sequence[LoadedPicture],
    vocabulary: Vocabulary,
) -> Task[list[LabelledPicture]]:
    pixels = [one.pixels for one in loaded if isinstance(one.pixels, Tensor)]
    prediction = yield from segmenter.predict(canvas.result() if canvas else pixels, vocabulary)
    records = LateRecords(prediction, [one.picture for one in loaded], pixels)
    yield
    return records.wait()


def _label_alone(segmenter: Segmenter, loaded: LoadedPicture, vocabulary: Vocabulary) -> Outcome:
    try:
        [[record]] = in_turns([_label_together(segmenter, None, [loaded], vocabulary)])
    except FATAL:
        raise
    except Exception as error:
        reason = f"cannot segment {str(loaded.picture.path)!r}: {type(error).__name__}: {error}"
        return _failure(loaded.picture, "segment", reason)
    return record


def _failure(picture: Picture, stage: str, reason: str) -> Failure:
    return Failure(picture.name, str(picture.path), stage, reason)
