"""Several processes on one machine give the same results as one, and the run survives when processes die."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ovsr_gpu.config import Config
from ovsr_gpu.errors import ModelError, OvsrError
from ovsr_gpu.runs.engines import processes
from ovsr_gpu.runs.engines.job import Job
from ovsr_gpu.runs.engines.processes import ProcessEngine
from ovsr_gpu.runs.session import RunCallbacks, RunOptions, label_images
from ovsr_gpu.runs.worker import Log, Worker
from ovsr_gpu.sources.image_source import ImageSource
from runs_helpers import VOCABULARY, FakePipeline, assert_complete, label, read_results

CPUS = [torch.device("cpu")] * 2


@dataclass(frozen=True)
class FakeJob(Job):
    """Labels with a `FakePipeline`, which may do something at each batch."""

    before: Any = None

    def worker(self, device: torch.device, log: Log) -> Worker:
        log("Loading nothing")
        return Worker(FakePipeline(self.before or (lambda images: None)), self.vocabulary)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DyingOnce:
    """Kills its process at the image with this red value, but only the first process that meets it."""

    red: int
    note: Path

    def __call__(self, images: list[torch.Tensor]) -> None:
        if any(int(image[0, 0, 0]) == self.red for image in images):
            try:
                self.note.touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def die(images: list[torch.Tensor]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(images: list[torch.Tensor]) -> None:
    raise ModelError("the weights are gone")


def job(before: Any = None) -> FakeJob:
    return FakeJob(Config(), VOCABULARY, before=before)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[ImageSource]:
    """Thirty images, number 7 broken."""
    folder = tmp_path_factory.mktemp("in")
    for number in range(30):
        pixels = np.full((4 + number % 3, 6, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "07.png").write_text("broken")
    return [ImageSource(folder / f"{number:02}.png", f"{number:02}") for number in range(30)]


@pytest.fixture(scope="module")
def whole(sources: list[ImageSource], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process."""
    out = tmp_path_factory.mktemp("whole")
    label(FakePipeline(), sources, VOCABULARY, out, batch_size=2)
    return out


def test_two_give_what_one_gives(sources: list[ImageSource], whole: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with closing(ProcessEngine(job(), CPUS, said.append)) as engine:
        assert said == ["cpu: Loading nothing"] * 2 and engine.describe()["weights"] == "none"
        summary = label_images(engine, sources, tmp_path / "out", RunOptions(batch_size=2))
    assert (summary.labelled, summary.failed, summary.interrupted) == (29, 1, False)
    assert sum(summary.time_fractions.values()) == pytest.approx(1, abs=0.003)
    assert read_results(tmp_path / "out") == read_results(whole)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_the_images_of_a_process_that_dies_go_to_the_others(
    sources: list[ImageSource], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No other batch can begin before the lost ones are done.
    monkeypatch.setattr(processes, "MAX_WAITING_BATCHES", 1)
    said: list[str] = []
    with closing(ProcessEngine(job(DyingOnce(2, tmp_path / "note")), CPUS, said.append)) as engine:
        summary = label_images(
            engine, sources, tmp_path / "out", RunOptions(batch_size=2), RunCallbacks(log=said.append)
        )
    assert said[-1] == "The process on cpu has died (exit status -9): the other processes label its images"
    assert (summary.labelled, summary.failed) == (29, 1) and read_results(tmp_path / "out") == read_results(whole)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_when_the_last_has_died_the_run_ends(sources: list[ImageSource], tmp_path: Path) -> None:
    with (
        closing(ProcessEngine(job(die), CPUS, lambda message: None)) as engine,
        pytest.raises(OvsrError, match=r"exit status -9.*so have all others.*resumed"),
    ):
        label_images(engine, sources, tmp_path / "out", RunOptions(batch_size=2))
    assert_complete(tmp_path / "out", [])


def test_an_error_of_the_models_comes_through(sources: list[ImageSource], tmp_path: Path) -> None:
    with (
        closing(ProcessEngine(job(fail), CPUS[:1], lambda message: None)) as engine,
        pytest.raises(ModelError, match="gone"),
    ):
        label_images(engine, sources, tmp_path / "out")
