"""Labelling with many machines: Ray Data reads the images in tasks and labels them in actors, one per GPU."""

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
from ovsr_gpu.store.manifest import MANIFEST_FILE
from ovsr_gpu.store.schema import LabelledBatch

LIST_FOLDER = ".images"
LIST_BATCHES = 512
"""Batches per file of the list that Ray Data reads."""

CALL_BATCHES = 16
"""Batches that an actor labels in one call. While a batch is written, the next one is in the models."""

READER_CPUS = 0.25
"""CPUs per reading task, which mostly waits. If it equals that of the actors, Ray Data fuses tasks and actors."""

Row = dict[str, Any]


class RayEngine:
    """An engine with Ray actors, each on its own GPU or CPU, see `session.Engine`.

    It connects to the cluster that `ray.init` finds, or starts Ray on this machine. Tasks read the encoded images and
    pass them to the actors, which write the files of an image and return its rows. The run's folder and local sources
    must therefore be on storage that all machines share under the same path. Ray restarts actors that die and gives
    them their images again.

    Args:
        job: What every actor loads.
        num_workers: Number of actors; 0 for one per GPU of the cluster. See `choose_workers`.
        on_gpus: Whether each actor gets a GPU.
        log: Called with messages for the user.
        stop: Called after each result; once it returns True, labelling ends.

    Raises:
        OvsrError: Ray is not installed, or the cluster has too few GPUs or CPUs.
        ModelError, VocabularyError: As `Job.worker` does.
    """

    def __init__(self, job: Job, num_workers: int, *, on_gpus: bool, log: Log, stop: Callable[[], bool]) -> None:
        try:
            import ray
        except ImportError as error:
            raise OvsrError(f'--engine ray needs Ray ({error}): pip install "ovsr-gpu[ray]"') from error
        self._connected_before = ray.is_initialized()
        if not self._connected_before:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        logging.getLogger("ray.data").setLevel("WARNING")
        self.vocabulary = job.vocabulary
        available = ray.cluster_resources()
        self.num_workers = num_workers = num_workers or int(available.get("GPU", 0))
        if not num_workers:
            raise OvsrError("the Ray cluster has no GPU; pass --devices cpu, or cpu,cpu,... with one cpu per worker")
        self._job, self._stop = job, stop
        self._gpus = int(on_gpus)
        for resource, required in (("GPU", num_workers * on_gpus), ("CPU", num_workers + 1)):
            if available.get(resource, 0) < required:
                raise OvsrError(
                    f"{num_workers} workers need {required} {resource}s (one CPU extra for reading); the cluster has "
                    f"{available.get(resource, 0):g}"
                )
        log(f"Running on a Ray cluster of {len(ray.nodes())} machines with {num_workers} workers; loading the models")
        describe = ray.remote(max_calls=1)(_describe).options(num_cpus=1, num_gpus=self._gpus)
        try:
            self._description = ray.get(describe.remote(job, os.getcwd()))
        except ray.exceptions.RayTaskError as error:
            raise _original_error(error) from error

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on, see `Worker.describe`."""
        return self._description

    def label(
        self, batches: Iterable[Sequence[ImageSource]], outputs: Outputs, log: Log = no_log
    ) -> Generator[LabelledBatch, None, None]:
        """Yield the result of each batch, see `session.Engine`. First lists all images in files in the run's folder."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        folder = outputs.out / LIST_FOLDER
        directory = os.getcwd()
        try:
            if not _write_list(batches, folder):
                return
            listed = ray.data.read_parquet(str(folder.absolute()), file_extensions=None)
            read = listed.map(_Reader(directory), num_cpus=READER_CPUS)
            labelled = read.map_batches(
                _Actor,
                fn_constructor_args=(self._job, outputs, directory),
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
            raise _original_error(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Leave the cluster, unless this process was connected to it before."""
        import ray

        if not self._connected_before:
            ray.shutdown()


def choose_workers(devices: str) -> tuple[int, bool]:
    """Parse `--devices` for Ray.

    Args:
        devices: "all" or "auto" for every GPU of the cluster; or "cpu" or "cuda" once per actor, separated by commas.

    Returns:
        The number of actors, 0 for one per GPU of the cluster; and whether they run on GPUs.

    Raises:
        ValueError: `devices` is anything else.
    """
    if devices in ("all", "auto"):
        return 0, True
    names = [name.strip() for name in devices.split(",")]
    if set(names) not in ({"cpu"}, {"cuda"}):
        raise ValueError(
            "with --engine ray, --devices must be all, or cpu or cuda repeated once per worker, such as cpu,cpu; "
            f"got {devices!r}"
        )
    return len(names), names[0] == "cuda"


def _write_list(batches: Iterable[Sequence[ImageSource]], folder: Path) -> int:
    """Write the batches, one per row, and return the number of files."""
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
    """Reads the files of a batch on any machine of the cluster."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __call__(self, row: Row) -> Row:
        os.chdir(self._directory)
        return {"batch": pickle.dumps([*map_ahead(prefetch, pickle.loads(row["batch"]))])}


class _Actor:
    """Labels batches on the GPU that Ray has assigned to it."""

    def __init__(self, job: Job, outputs: Outputs, directory: str) -> None:
        os.chdir(directory)
        if not (outputs.out / MANIFEST_FILE).exists():
            raise OvsrError(
                f"the folder {str(outputs.out)!r} does not exist on every machine of the cluster; choose one on "
                "storage that all machines share"
            )
        self._worker = job.worker(_assigned_device(), _print_log)
        self._outputs = outputs

    def __call__(self, rows: Row) -> Row:
        batches: Iterator[list[ImageSource]] = map(pickle.loads, rows["batch"])
        labelled = self._worker.label(batches, self._outputs, _print_log)
        return {"labelled": [pickle.dumps(batch) for batch in labelled]}


def _describe(job: Job, directory: str) -> dict[str, Any]:
    os.chdir(directory)
    return job.worker(_assigned_device(), _print_log).describe()


def _assigned_device() -> torch.device:
    import ray

    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def _print_log(message: str) -> None:
    print(message, flush=True)


def _original_error(error: Any) -> Exception:
    """Return the error of a task as it was raised there."""
    cause = error.cause
    while isinstance(getattr(cause, "__cause__", None), Exception):
        cause = cause.__cause__
    return cause if isinstance(cause, (OvsrError, OSError)) else ModelError(f"{type(cause).__name__}: {cause}")
