"""A labelling run: images in, label maps, overlays and annotations out, bad images told apart."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.export.jsonl import LineFile
from ovsr_gpu.export.outputs import DEFAULT_OUTPUTS, OUTPUT_FILES, Outputs
from ovsr_gpu.runs.run_stats import RunStats, RunSummary
from ovsr_gpu.runs.worker import Log
from ovsr_gpu.runtime.atomic import UNFINISHED, write_json
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.manifest import FILE, check_manifest, describe_run, write_manifest
from ovsr_gpu.store.store import FOLDER, Failure, LabelledBatch, Store, StoreWriter
from ovsr_gpu.vocabulary import Vocabulary

RESULTS = (*OUTPUT_FILES, FOLDER, "errors.jsonl", "summary.json", FILE)


class Engine(Protocol):
    """What labels the images of a run: a `labeller.Labeller`, or several of them in processes or on a cluster."""

    vocabulary: Vocabulary
    workers: int

    def describe(self) -> dict[str, Any]:
        """What the results depend on beside the images and the vocabulary, see `describe_segmenter`."""

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = ...
    ) -> Generator[LabelledBatch, None, None]:
        """What became of each batch, in their order, once all files of its images are complete.

        `say` is told in words what the user should know.
        """


def label_images(
    engine: Engine,
    images: Iterable[ImageSource],
    out: Path,
    *,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    batch_size: int = 8,
    overwrite: bool = False,
    resume: bool = False,
    max_errors: int | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
    log: Log = lambda message: None,
) -> RunSummary:
    """Label images and write the `outputs` (names of `export.outputs.OUTPUTS`) into the folder `out`.

    An image that cannot be read or segmented goes to `errors.jsonl` and the run goes on.

    However a run ends, `resume` goes on with it: images that its store has are passed over, all others are labelled.
    Ctrl-C ends it with KeyboardInterrupt, and `stop`, asked before each batch, without an error; in both cases the
    results of what was finished are complete. What dies without a word loses the last part of the store at most.
    `progress` is called with the number of images done and of all images, None where nobody knows. Where a device
    runs out of memory the run goes on with half as much at a time, which `say` is told.

    Raises ValueError where `out` holds the results of an earlier run and neither `overwrite` nor `resume` is set, or
    the run to resume was made with something else; OvsrError where another run writes to `out`, results cannot be
    written (those written before stay), or more than `max_errors` images failed; ModelError and VocabularyError as
    the segmenter does.
    """
    prepare_output(out, overwrite=overwrite, resume=resume)
    wanted = Outputs(out, outputs)
    description = describe_run(engine.describe(), engine.vocabulary, wanted.names, batch_size)
    with _told_what_to_do(out), _alone(out):
        if resume and (out / FILE).exists():
            for change in check_manifest(out, description):
                log(f"Other versions than when this run began, so the last bits may differ: {change}")
            _remove_leftovers(out)
        else:
            _clear(out)
            write_manifest(out, description)
        store = Store(out)
        done, stats = store.names(), RunStats(store, engine.vocabulary)
        left = (image for image in images if image.name not in done)
        total = len(images) if isinstance(images, Sized) else None
        stopped, given = False, stats.done

        def batches() -> Iterator[list[ImageSource]]:
            nonlocal stopped, given
            while batch := list(islice(left, batch_size)):
                if stopped := stop():
                    return
                given += len(batch)
                yield batch

        interrupted = True
        try:
            with closing(LineFile(out / "errors.jsonl")) as errors, closing(StoreWriter(out)) as kept:
                errors.append([_error_line(failure) for failure in store.failures()])
                with closing(engine.label(batches(), wanted, log)) as labelled:
                    for batch in labelled:
                        kept.add(batch)
                        errors.append([_error_line(failure) for failure in batch.failures])
                        stats.add(batch)
                        progress(stats.done, total)
                        if max_errors is not None and stats.failed > max_errors:
                            raise OvsrError(
                                f"{stats.failed} images failed, more than the {max_errors} allowed, the last because "
                                f"{stats.last_failure}; see {out / 'errors.jsonl'}"
                            )
            interrupted = stopped or stats.done < given
        finally:
            summary = stats.summary(engine.workers, interrupted=interrupted)
            wanted.write_rest(engine.vocabulary)
            _write_summary(out, summary, description)
    return summary


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


def _is_there(result: Path) -> bool:
    return any(result.iterdir()) if result.is_dir() else result.exists()


def _clear(out: Path) -> None:
    for name in RESULTS:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)


def _remove_leftovers(out: Path) -> None:
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
