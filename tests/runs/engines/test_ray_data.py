"""Ray Data on this machine with two actors gives the same results as one process, even if actors are killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import test_processes
import torch
from PIL import Image
from test_processes import job

import runs_helpers
from ovsr_gpu.config import Config
from ovsr_gpu.errors import ModelError, OvsrError
from ovsr_gpu.runs.engines.job import Job
from ovsr_gpu.runs.engines.ray_data import LIST_FOLDER, RayEngine, choose_workers
from ovsr_gpu.runs.session import RunCallbacks, RunOptions, label_images
from ovsr_gpu.runs.worker import Log, Worker
from ovsr_gpu.sources.image_source import ImageSource
from runs_helpers import VOCABULARY, FakePipeline, label, read_results


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine with four logical CPUs; its processes can import the test modules."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    folders = [str(Path(module.__file__).parent) for module in (runs_helpers, test_processes)]
    paths = os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": paths}}
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def actors() -> list[int]:
    """The processes of Ray Data's actors."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::") and b"_Actor" in command:
            found.append(int(folder.name))
    return found


def linger(images: list[torch.Tensor]) -> None:
    time.sleep(0.03)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the actors in /proc")
def test_actors_killed_in_mid_run(cluster: None, tmp_path: Path) -> None:
    sources = []
    for number in range(200):
        path = tmp_path / "in" / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (7, 5), (number, 0, 0)).save(path)
        sources.append(ImageSource(path, path.stem))
    sources[5].path.write_text("broken")
    sources[6].path.unlink()
    whole = label(FakePipeline(), sources, VOCABULARY, tmp_path / "whole", batch_size=2)
    killed: list[int] = []

    def kill_once(done: int, total: int | None) -> None:
        if not killed:
            killed.extend(actors())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    out = tmp_path / "out"
    with closing(RayEngine(job(linger), 2, on_gpus=False, log=print, stop=lambda: False)) as engine:
        summary = label_images(engine, sources, out, RunOptions(batch_size=2), RunCallbacks(kill_once))
    assert killed and (summary.labelled, summary.failed) == (whole.labelled, whole.failed) == (198, 2)
    assert not summary.interrupted and not (out / LIST_FOLDER).exists()
    assert read_results(out) == read_results(tmp_path / "whole")


@pytest.mark.slow
def test_errors_of_loading_models_are_raised_unwrapped(cluster: None) -> None:
    """Ray wraps the errors of its tasks."""
    with pytest.raises(ModelError, match=r"^the weights are lost$"):
        RayEngine(BrokenJob(Config(), VOCABULARY), 1, on_gpus=False, log=print, stop=lambda: False)


@dataclass(frozen=True)
class BrokenJob(Job):
    def worker(self, device: torch.device, log: Log) -> Worker:
        raise ModelError("the weights are lost")


@pytest.mark.parametrize(
    ("devices", "expected"), [("all", (0, True)), ("auto", (0, True)), ("cpu, cpu", (2, False)), ("cuda", (1, True))]
)
def test_workers(devices: str, expected: tuple[int, bool]) -> None:
    assert choose_workers(devices) == expected


@pytest.mark.parametrize("devices", ["cpu,cuda", "cuda:1", "mps", ""])
def test_devices_that_ray_does_not_give(devices: str) -> None:
    with pytest.raises(ValueError, match=r"--devices must be all, or cpu or cuda repeated"):
        choose_workers(devices)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OvsrError, match=r'pip install "ovsr-gpu\[ray\]"'):
        RayEngine(job(), 1, on_gpus=False, log=lambda message: None, stop=lambda: False)
