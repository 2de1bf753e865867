"""A labelling run: labels images, writes the outputs, and reports the images that fail."""

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
from ovsr_gpu.runtime.atomic import TEMPORARY_SUFFIX, write_json
from ovsr_gpu.runtime.callbacks import Log, Progress, no_log, no_progress
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.manifest import MANIFEST_FILE, check_manifest, describe_run, write_manifest
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.schema import STORE_FOLDER, Failure, LabelledBatch
from ovsr_gpu.store.writer import StoreWriter
from ovsr_gpu.vocabulary import Vocabulary

RESULT_NAMES = (*OUTPUT_FILES, STORE_FOLDER, "errors.jsonl", "summary.json", MANIFEST_FILE)


class Engine(Protocol):
    """Labels the images of a run: a `worker.Worker`, or several of them in processes or on a cluster.

    Attributes:
        vocabulary: The classes.
        num_workers: Number of workers that label in parallel.
    """

    vocabulary: Vocabulary
    num_workers: int

    def describe(self) -> dict[str, Any]:
        """Return everything the results depend on, apart from the images and the vocabulary; see `Worker.describe`."""

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = ...
    ) -> Generator[LabelledBatch, None, None]:
        """Yield the result of each batch, in order, once all files of its images are complete.

        Args:
            batches: The images.
            outputs: The outputs to write during the run.
            log: Called with messages for the user.

        Yields:
            One result per batch.
        """


@dataclass(frozen=True)
class RunOptions:
    """The options of a run.

    Attributes:
        outputs: Keys of `export.outputs.OUTPUTS`.
        batch_size: Number of images per batch.
        overwrite: Replace the results of an earlier run.
        resume: Resume an earlier run, however it ended: images in its store are skipped.
        max_errors: The run ends when more images than this have failed; None for no limit.
    """

    outputs: Sequence[str] = DEFAULT_OUTPUTS
    batch_size: int = 8
    overwrite: bool = False
    resume: bool = False
    max_errors: int | None = None


@dataclass(frozen=True)
class RunCallbacks:
    """Functions that a run calls.

    Attributes:
        progress: Called after each batch with the number of images done and the total (None if unknown).
        stop: Called before each batch; once it returns True, the run finishes the batches in progress and ends.
        log: Called with messages for the user.
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

    An image that cannot be read or segmented is listed in `errors.jsonl`, and the run continues. If a device runs out
    of memory, the run continues with half as many images at a time.

    A run can be resumed after any interruption with `RunOptions(resume=True)`. Ctrl-C ends it with KeyboardInterrupt;
    the results of finished images are then complete. A killed process loses at most the uncommitted part of the store.

    Args:
        engine: Labels the batches.
        images: The images to label. An iterator may find them while the run goes on.
        out: The folder for the results.
        options: See `RunOptions`.
        callbacks: See `RunCallbacks`.

    Returns:
        The summary of the run, also written to `summary.json`.

    Raises:
        ValueError: `out` contains the results of an earlier run and neither `overwrite` nor `resume` is set, or the run
            to resume was made with different settings.
        OvsrError: Another run writes to `out`; results cannot be written (those written before are kept); more than
            `max_errors` images failed.
        ModelError, VocabularyError: As the pipeline does.
    """
    options, callbacks = options or RunOptions(), callbacks or RunCallbacks()
    prepare_run_folder(out, overwrite=options.overwrite, resume=options.resume)
    outputs = Outputs(out, options.outputs)
    description = describe_run(engine.describe(), engine.vocabulary, outputs.names, options.batch_size)
    with _explain_disk_errors(out), _locked(out):
        return _Session(engine, outputs, description, options, callbacks).run(images)


class _Session:
    """One session of a run: labels the images that are left and writes the summary."""

    def __init__(
        self,
        engine: Engine,
        outputs: Outputs,
        description: dict[str, Any],
        options: RunOptions,
        callbacks: RunCallbacks,
    ) -> None:
        self._engine, self._outputs, self._description = engine, outputs, description
        self._out, self._options, self._callbacks = outputs.out, options, callbacks
        self._continue_or_begin()
        self._store = Store(self._out)
        self._stats = RunStats(self._store, engine.vocabulary)
        self._num_handed_out = self._stats.num_done
        self._stopped = False

    def run(self, images: Iterable[ImageSource]) -> RunSummary:
        """Label the images that are not in the store; even after an error, write the results of the finished ones."""
        total = len(images) if isinstance(images, Sized) else None
        done = self._store.image_names()
        remaining = (image for image in images if image.name not in done)
        interrupted = True
        try:
            self._label(remaining, total)
            interrupted = self._stopped or self._stats.num_done < self._num_handed_out
        finally:
            summary = self._stats.summary(self._engine.num_workers, interrupted=interrupted)
            self._outputs.write_at_end(self._engine.vocabulary)
            _write_summary(self._out, summary, self._description)
        return summary

    def _continue_or_begin(self) -> None:
        if self._options.resume and (self._out / MANIFEST_FILE).exists():
            for change in check_manifest(self._out, self._description):
                self._callbacks.log(
                    f"A version has changed since this run began, so results may differ in the last bits: {change}"
                )
            _remove_unfinished_files(self._out)
        else:
            _delete_results(self._out)
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
                    self._callbacks.progress(self._stats.num_done, total)
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
        max_errors, stats = self._options.max_errors, self._stats
        if max_errors is not None and stats.num_failed > max_errors:
            raise OvsrError(
                f"{stats.num_failed} images failed, more than the {max_errors} allowed; the last error: "
                f"{stats.last_failure}; see {self._out / 'errors.jsonl'}"
            )


def prepare_run_folder(out: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Create the folder `out` and check that results can be written to it.

    Args:
        out: The run's folder.
        overwrite: Whether results of an earlier run may be replaced.
        resume: Whether an earlier run is to be resumed.

    Raises:
        ValueError: `out` is a file, or contains results that the options do not allow to replace or to resume.
        OvsrError: The folder cannot be written to.
    """
    if overwrite and resume:
        raise ValueError("a run is either resumed or overwritten; leave out --overwrite or --resume")
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output {str(out)!r} is a file; choose a folder")
    existing = [name for name in RESULT_NAMES if _is_there(out / name)]
    if existing and MANIFEST_FILE not in existing and (overwrite or resume):
        raise ValueError(
            f"the folder {str(out)!r} contains {', '.join(existing)} but no {MANIFEST_FILE}, so it is not a run that "
            "can be resumed or overwritten; choose another folder"
        )
    if existing and not overwrite and not resume:
        raise ValueError(
            f"the output folder {str(out)!r} already contains {', '.join(existing)}; choose another folder, or pass "
            "--resume (resume=True) to continue that run, or --overwrite (overwrite=True) to replace its results"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise OvsrError(f"the output folder {str(out)!r} cannot be written to ({error.strerror})") from error


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock the folder against other runs; the lock is released when the process ends."""
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise OvsrError(f"another run is writing to {str(out)!r}; wait for it or choose another folder") from error


@contextmanager
def _explain_disk_errors(out: Path) -> Iterator[None]:
    """Convert an OSError of writing to an OvsrError that explains what to do."""
    try:
        yield
    except OSError as error:  # errors of reading and segmenting are handled elsewhere
        raise OvsrError(
            f"the results cannot be written to {str(out)!r} ({error.strerror or error}); "
            "results written before are kept: free some space and pass --resume (resume=True)"
        ) from error


def _is_there(result: Path) -> bool:
    """Return whether a file exists, or a folder with something in it."""
    return any(result.iterdir()) if result.is_dir() else result.exists()


def _delete_results(out: Path) -> None:
    for name in RESULT_NAMES:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)


def _remove_unfinished_files(out: Path) -> None:
    """Delete the temporary files of a killed session."""
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(TEMPORARY_SUFFIX):
                os.unlink(os.path.join(folder, name))


def _error_line(failure: Failure) -> dict[str, str]:
    return {"path": failure.path, "stage": failure.stage, "reason": failure.reason}


def _write_summary(out: Path, summary: RunSummary, description: dict[str, Any]) -> None:
    content = {name: value for name, value in asdict(summary).items() if name != "failures"}
    content |= {name: description[name] for name in ("device", "versions", "config")}
    write_json(out / "summary.json", content)
