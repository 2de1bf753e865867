"""Ray Data on this machine, with two actors: it gives what one process gives, also where an actor is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_labelling import assert_complete, results

from ovsr_gpu.config import Config
from ovsr_gpu.embedded.networks import EMBEDDED
from ovsr_gpu.embedded.scenes import CLASSES, make_scene
from ovsr_gpu.engines.job import Job
from ovsr_gpu.engines.ray_data import LIST_FOLDER, RayData, choose_workers
from ovsr_gpu.errors import OvsrError
from ovsr_gpu.labelling import label_pictures
from ovsr_gpu.runs.store import Store
from ovsr_gpu.sources.picture import Picture
from ovsr_gpu.stages.vocabulary import Vocabulary

JOB = Job(Config(), Vocabulary.parse(CLASSES), EMBEDDED, EMBEDDED)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, as if that had four CPUs."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the actors in /proc")
def test_both_actors_killed_in_mid_run(cluster: None, tmp_path: Path) -> None:
    pictures = []
    for number in range(40):
        path = tmp_path / "in" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(make_scene(number).pixels).save(path)
        pictures.append(Picture(path, path.stem))
    pictures[5].path.write_text("broken")
    pictures[6].path.unlink()
    whole = label_pictures(
        JOB.labeller(torch.device("cpu"), lambda message: None), pictures, tmp_path / "whole", batch_size=1
    )
    killed: list[int] = []

    def kill_once(done: int, total: int | None) -> None:
        if not killed:
            killed.extend(actors())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    out = tmp_path / "out"
    with closing(RayData(JOB, 2, on_gpus=False, say=lambda message: None, stop=lambda: False)) as engine:
        summary = label_pictures(engine, pictures, out, batch_size=1, progress=kill_once)
    assert len(killed) == 2 and (summary.labelled, summary.failed) == (whole.labelled, whole.failed) == (38, 2)
    assert not summary.interrupted and not (out / LIST_FOLDER).exists()
    assert results(out).keys() == results(tmp_path / "whole").keys()
    assert (out / "errors.jsonl").read_text() == (tmp_path / "whole" / "errors.jsonl").read_text()
    assert_complete(out, [picture.name for picture in pictures if picture.name not in ("05", "06")])
    columns = ["picture", "region", "class_index", "area", "rle"]
    here, there = ([*Store(folder).rows([*columns, "embedding"])] for folder in (tmp_path / "whole", out))
    assert [[row[name] for name in columns] for row in there] == [[row[name] for name in columns] for row in here]
    cosine = np.array([np.dot(one["embedding"], other["embedding"]) for one, other in zip(here, there, strict=True)])
    assert (cosine > 0.999).all()


@pytest.mark.parametrize(
    ("devices", "expected"), [("all", (0, True)), ("auto", (0, True)), ("cpu, cpu", (2, False)), ("cuda", (1, True))]
)
def test_workers(devices: str, expected: tuple[int, bool]) -> None:
    assert choose_workers(devices) == expected


@pytest.mark.parametrize("devices", ["cpu,cuda", "cuda:1", "mps", ""])
def test_devices_that_ray_does_not_give(devices: str) -> None:
    with pytest.raises(ValueError, match=r"--devices is all, or as many times cpu or cuda"):
        choose_workers(devices)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OvsrError, match=r'pip install "ovsr-gpu\[ray\]"'):
        RayData(JOB, 1, on_gpus=False, say=lambda message: None, stop=lambda: False)
