"""A labelling run: images in, label maps, overlays and annotations out, bad images told apart."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.export.jsonl import LineFile
from ovsr_gpu.export.outputs import DEFAULT_OUTPUTS, OUTPUT_FILES, Outputs
from ovsr_gpu.runs.run_stats import RunStats, RunSummary
from ovsr_gpu.runtime.atomic import UNFINISHED, write_json
from ovsr_gpu.runtime.callbacks import Log, Progress, no_log, no_progress
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.manifest import FILE, check_manifest, describe_run, write_manifest
from ovsr_gpu.store.store import FOLDER, Failure, LabelledBatch, Store, StoreWriter
from ovsr_gpu.vocabulary import Vocabulary

RESULTS = (*OUTPUT_FILES, FOLDER, "errors.jsonl", "summary.json", FILE)


class Engine(Protocol):
    """Labels the images of a run: a `worker.Worker`, or several of them in processes or on a cluster."""

    vocabulary: Vocabulary
    num_workers: int

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on beside the images and the vocabulary, see `Worker.describe`."""

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = ...
    ) -> Generator[LabelledBatch, None, None]:
        """Yield the result of each batch, in their order, once all files of its images are complete."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is made.

    Attributes:
        outputs: Names of `export.outputs.OUTPUTS`.
        batch_size: Images a batch.
        overwrite: Replace the results of an earlier run.
        resume: Go on with an earlier run, however it ended: images that its store has are skipped.
        max_errors: Images that may fail before the run ends; None for any number.
    """

    outputs: Sequence[str] = DEFAULT_OUTPUTS
    batch_size: int = 8
    overwrite: bool = False
    resume: bool = False
    max_errors: int | None = None


@dataclass(frozen=True)
class RunCallbacks:
    """What a run calls while it goes on.

    Attributes:
        progress: After each batch.
        stop: Before each batch; the run ends without an error once it returns True.
        log: For messages to the user.
    """

    progress: Progress = no_progress
    stop: Callable[[], bool] = lambda: False
    log: Log = no_log


def label_images(
    engine: Engine,
    images: Iterable[ImageSource],
    out: Path,
    options: RunOptions | None = None,
    callbacks: RunCallbacks | None = None,
) -> RunSummary:
    """Label images and write the outputs into the folder `out`.

    An image that cannot be read or segmented goes to `errors.jsonl`, and the run goes on. After any interruption
    `RunOptions(resume=True)` goes on with the run. Ctrl-C ends it with KeyboardInterrupt; the results of finished images
    are then complete. A killed process loses at most the uncommitted part of the store. Where a device runs out of
    memory, the run goes on with half as many images at a time.

    Args:
        engine: Labels the batches.
        images: What to label; may be found while the run goes on.
        out: The folder of the results.
        options: See `RunOptions`.
        callbacks: See `RunCallbacks`.

    Raises:
        ValueError: `out` holds the results of an earlier run and neither `overwrite` nor `resume` is set, or the run to
            resume was made with something else.
        OvsrError: Another run writes to `out`; results cannot be written (those written before stay); more than
            `max_errors` images failed.
        ModelError, VocabularyError: As the pipeline does.
    """
    options, callbacks = options or RunOptions(), callbacks or RunCallbacks()
    prepare_output(out, overwrite=options.overwrite, resume=options.resume)
    with _disk_errors_explained(out), _locked(out):
        return _Session(engine, out, options, callbacks).run(images)


class _Session:
    """One session of a run: from the first image that is left to the summary."""

    def __init__(self, engine: Engine, out: Path, options: RunOptions, callbacks: RunCallbacks) -> None:
        self._engine, self._out, self._options, self._callbacks = engine, out, options, callbacks
        self._outputs = Outputs(out, options.outputs)
        self._description = describe_run(engine.describe(), engine.vocabulary, self._outputs.names, options.batch_size)
        self._continue_or_begin()
        self._store = Store(out)
        self._stats = RunStats(self._store, engine.vocabulary)
        self._num_handed_out = self._stats.done
        self._stopped = False

    def run(self, images: Iterable[ImageSource]) -> RunSummary:
        """Label the images that the store does not have; the results of finished ones are written in any case."""
        total = len(images) if isinstance(images, Sized) else None
        done = self._store.names()
        left = (image for image in images if image.name not in done)
        interrupted = True
        try:
            self._label(left, total)
            interrupted = self._stopped or self._stats.done < self._num_handed_out
        finally:
            summary = self._stats.summary(self._engine.num_workers, interrupted=interrupted)
            self._outputs.write_rest(self._engine.vocabulary)
            _write_summary(self._out, summary, self._description)
        return summary

    def _continue_or_begin(self) -> None:
        if self._options.resume and (self._out / FILE).exists():
            for change in check_manifest(self._out, self._description):
                self._callbacks.log(f"Other versions than when this run began, so the last bits may differ: {change}")
            _remove_unfinished_files(self._out)
        else:
            _clear(self._out)
            write_manifest(self._out, self._description)

    def _label(self, images: Iterator[ImageSource], total: int | None) -> None:
        batches = self._batches(images)
        with closing(LineFile(self._out / "errors.jsonl")) as errors, closing(StoreWriter(self._out)) as store:
            errors.append([_error_line(failure) for failure in self._store.failures()])
            with closing(self._engine.label(batches, self._outputs, self._callbacks.log)) as labelled:
                for batch in labelled:
                    store.add(batch)
                    errors.append([_error_line(failure) for failure in batch.failures])
                    self._stats.add(batch)
                    self._callbacks.progress(self._stats.done, total)
                    self._check_number_of_errors()

    def _batches(self, images: Iterator[ImageSource]) -> Iterator[list[ImageSource]]:
        """Yield batches until the images are used up or the caller asks to stop."""
        while batch := list(islice(images, self._options.batch_size)):
            if self._callbacks.stop():
                self._stopped = True
                return
            self._num_handed_out += len(batch)
            yield batch

    def _check_number_of_errors(self) -> None:
        allowed, stats = self._options.max_errors, self._stats
        if allowed is not None and stats.failed > allowed:
            raise OvsrError(
                f"{stats.failed} images failed, more than the {allowed} allowed, the last because "
                f"{stats.last_failure}; see {self._out / 'errors.jsonl'}"
            )


def prepare_output(out: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Make the folder `out` and see that results can be written there; see `label_images` for the errors."""
    if overwrite and resume:
        raise ValueError("a run is either resumed or overwritten; leave out --overwrite or --resume")
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output {str(out)!r} is a file; name a folder")
    held = [name for name in RESULTS if _is_there(out / name)]
    if held and FILE not in held and (overwrite or resume):
        raise ValueError(
            f"the folder {str(out)!r} holds {', '.join(held)} but no {FILE}: that is no run to go on with or to "
            "replace; name another folder"
        )
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
def _locked(out: Path) -> Iterator[None]:
    """Keep other runs out of the folder; the lock dies with its process."""
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise OvsrError(f"another run is writing to {str(out)!r}; wait for it or name another folder") from error


@contextmanager
def _disk_errors_explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # reading and segmenting handle their own
        raise OvsrError(
            f"the results cannot be written to {str(out)!r} ({error.strerror or error}); "
            "what was written before stays: make room and pass --resume (resume=True)"
        ) from error


def _is_there(result: Path) -> bool:
    return any(result.iterdir()) if result.is_dir() else result.exists()


def _clear(out: Path) -> None:
    for name in RESULTS:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)


def _remove_unfinished_files(out: Path) -> None:
    """Files that a session which was killed had begun."""
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(UNFINISHED):
                os.unlink(os.path.join(folder, name))


def _error_line(failure: Failure) -> dict[str, str]:
    return {"path": failure.path, "stage": failure.stage, "reason": failure.reason}


def _write_summary(out: Path, summary: RunSummary, description: dict[str, Any]) -> None:
    content = {name: value for name, value in asdict(summary).items() if name != "failures"}
    content |= {name: description[name] for name in ("device", "versions", "config")}
    write_json(out / "summary.json", content)
