"""Many machines: the images of a run as a Ray Dataset, read by tasks and labelled by an actor for each GPU."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet

from ovsr_gpu.errors import ModelError, OvsrError
from ovsr_gpu.export.outputs import Outputs
from ovsr_gpu.runs.engines.job import Job
from ovsr_gpu.runtime.callbacks import Log, no_log
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.sources.image_source import ImageSource, prefetch
from ovsr_gpu.store.manifest import FILE
from ovsr_gpu.store.store import LabelledBatch

LIST_FOLDER = ".images"
LIST_BATCHES = 512
"""Batches in a file of the list that Ray Data reads."""

CALL_BATCHES = 16
"""Batches that an actor labels in one call, the next one in the models while the one before it is written."""

READER_CPUS = 0.25
"""Of a task that reads files, which mostly waits. With the actors' own number Ray Data would join tasks and actors."""

Row = dict[str, Any]


class RayData:
    """Labels with Ray actors, each on a GPU or CPU of its own, as many as `choose_workers` says (`session.Engine`).

    It connects to the cluster that `ray.init` finds, or starts Ray on this machine. Encoded images go from the tasks
    that read them to the actors, which write the files of an image and hand its rows back: the run's folder must be on
    storage that all machines share under the same path, and so must local sources. Ray starts actors that die anew and
    gives them their images again. Once `stop` says so, no further result is waited for.

    Raises OvsrError where Ray is not installed or has no room, ModelError and VocabularyError as `Job.worker` does.
    """

    def __init__(self, job: Job, workers: int, *, on_gpus: bool, log: Log, stop: Callable[[], bool]) -> None:
        try:
            import ray
        except ImportError as error:
            raise OvsrError(f'--engine ray needs Ray ({error}): pip install "ovsr-gpu[ray]"') from error
        self._connected_before = ray.is_initialized()
        if not self._connected_before:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        logging.getLogger("ray.data").setLevel("WARNING")
        self.vocabulary = job.vocabulary
        have = ray.cluster_resources()
        self.num_workers = workers = workers or int(have.get("GPU", 0))
        if not workers:
            raise OvsrError(
                "the Ray cluster has no GPU; name --devices cpu, or as many of them as there should be workers"
            )
        self._job, self._stop = job, stop
        self._gpus = int(on_gpus)
        for resource, wanted in (("GPU", workers * on_gpus), ("CPU", workers + 1)):
            if have.get(resource, 0) < wanted:
                raise OvsrError(
                    f"{workers} workers need {wanted} {resource}s (one CPU more, for reading), and the Ray cluster has "
                    f"{have.get(resource, 0):g}"
                )
        log(f"Running on a Ray cluster of {len(ray.nodes())} machines with {workers} workers; loading the models")
        describe = ray.remote(max_calls=1)(_describe).options(num_cpus=1, num_gpus=self._gpus)
        try:
            self._description = ray.get(describe.remote(job, os.getcwd()))
        except ray.exceptions.RayTaskError as error:
            raise _own(error) from error

    def describe(self) -> dict[str, Any]:
        return self._description

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = no_log
    ) -> Generator[LabelledBatch, None, None]:
        """See `session.Engine`. All images are listed first, in files below the run's folder."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        folder = outputs.out / LIST_FOLDER
        place = os.getcwd()
        try:
            if not _write_list(batches, folder):
                return
            listed = ray.data.read_parquet(str(folder.absolute()), file_extensions=None)
            read = listed.map(_Reader(place), num_cpus=READER_CPUS)
            labelled = read.map_batches(
                _Actor,
                fn_constructor_args=(self._job, outputs, place),
                batch_size=CALL_BATCHES,
                compute=ray.data.ActorPoolStrategy(size=self.num_workers),
                num_cpus=1,
                num_gpus=self._gpus,
            )
            for row in labelled.iter_rows():
                yield pickle.loads(row["labelled"])
                if self._stop():
                    return
        except ray.exceptions.RayTaskError as error:
            raise _own(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Leave the cluster, unless this process was connected to it before."""
        import ray

        if not self._connected_before:
            ray.shutdown()


def choose_workers(devices: str) -> tuple[int, bool]:
    """How many actors "--devices" asks for, and whether on GPUs: "all" or "auto", of which Ray's cluster says how many
    there are (0), or "cpu" or "cuda" so many times.

    Raises ValueError for anything else.
    """
    if devices in ("all", "auto"):
        return 0, True
    names = [name.strip() for name in devices.split(",")]
    if set(names) not in ({"cpu"}, {"cuda"}):
        raise ValueError(
            f"with --engine ray, --devices is all, or as many times cpu or cuda as there should be workers, as in "
            f"cpu,cpu; got {devices!r}"
        )
    return len(names), names[0] == "cuda"


def _write_list(batches: Iterable[Sequence[ImageSource]], folder: Path) -> int:
    """Write the batches, a row each, and say how many files there are."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows: list[bytes] = []
    files = 0

    def write_file() -> None:
        nonlocal files
        parquet.write_table(pa.table({"batch": pa.array(rows, pa.binary())}), folder / f"{files:06}.parquet")
        rows.clear()
        files += 1

    for batch in batches:
        rows.append(pickle.dumps(batch))
        if len(rows) == LIST_BATCHES:
            write_file()
    if rows:
        write_file()
    return files


class _Reader:
    """Reads the files of a batch, wherever in the cluster."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __call__(self, row: Row) -> Row:
        os.chdir(self._place)
        return {"batch": pickle.dumps([*map_ahead(prefetch, pickle.loads(row["batch"]))])}


class _Actor:
    """Labels batches on the GPU that Ray has given it."""

    def __init__(self, job: Job, outputs: Outputs, place: str) -> None:
        os.chdir(place)
        if not (outputs.out / FILE).exists():
            raise OvsrError(
                f"the folder {str(outputs.out)!r} is not there on every machine of the cluster; name one on storage "
                "that all of them share"
            )
        self._worker = job.worker(_own_device(), _to_log)
        self._outputs = outputs

    def __call__(self, rows: Row) -> Row:
        batches: Iterator[list[ImageSource]] = map(pickle.loads, rows["batch"])
        labelled = self._worker.label(batches, self._outputs, _to_log)
        return {"labelled": [pickle.dumps(batch) for batch in labelled]}


def _describe(job: Job, place: str) -> dict[str, Any]:
    os.chdir(place)
    return job.worker(_own_device(), _to_log).describe()


def _own_device() -> torch.device:
    import ray

    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def _to_log(message: str) -> None:
    print(message, flush=True)


def _own(error: Any) -> Exception:
    """The error of a task as it was raised there."""
    cause = error.cause
    while isinstance(getattr(cause, "__cause__", None), Exception):
        cause = cause.__cause__
    return cause if isinstance(cause, (OvsrError, OSError)) else ModelError(f"{type(cause).__name__}: {cause}")
