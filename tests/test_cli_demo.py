"""`ovsr demo` and `--model embedded` as commands, with the embedded models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ovsr_gpu
from ovsr_gpu.cli import main
from ovsr_gpu.evaluation import ConfusionMatrix
from ovsr_gpu.synthetic.scenes import CLASSES, make_scene
from runs_helpers import assert_complete

NAMES = ["scene-000", "scene-001", "scene-002"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if it tries to resolve a host name or to connect."""

    def record_attempt(event: str, arguments: object) -> None:
        if is_active and event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}:
            attempts.append((event, arguments))

    sys.addaudithook(record_attempt)  # a hook cannot be removed, only switched off
    is_active, attempts = [True], []
    yield
    is_active.clear()
    assert not attempts


def ovsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsr", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert ovsr(monkeypatch, "demo", "--scenes", 3, "--json", "scores/demo.json", "--device", "cpu") == 0
    captured = capsys.readouterr()
    assert "not for photographs" in captured.err and "Drawing 3 scenes" in captured.err
    scores = json.loads((tmp_path / "scores" / "demo.json").read_text())
    assert scores == json.loads((tmp_path / "ovsr-demo" / "demo.json").read_text())
    assert scores["scenes"] == 3 and scores["device"] == "cpu" and scores["images_per_second"] > 0
    assert scores["versions"]["ovsr-gpu"] == ovsr_gpu.__version__
    assert f"{scores['labelled_miou']:.3f}" in captured.out and f"{scores['hungarian_miou']:.3f}" in captured.out

    out = tmp_path / "ovsr-demo"
    assert_complete(out / "labelled", NAMES)
    confusion = ConfusionMatrix(len(CLASSES))
    for seed, name in enumerate(NAMES):
        scene = make_scene(seed)
        assert (np.asarray(Image.open(out / "images" / f"{name}.png")) == scene.pixels).all()
        assert (np.asarray(Image.open(out / "targets" / f"{name}.png")) == scene.labels).all()
        prediction = np.asarray(Image.open(out / "labelled" / "labels" / f"{name}.png"))
        confusion.update(torch.tensor(prediction), torch.tensor(scene.labels))
    assert scores["labelled_miou"] == pytest.approx(confusion.compute().miou, abs=1e-4)
    assert 0.4 < scores["labelled_miou"] <= 1 and 0.6 < scores["hungarian_miou"] <= 1
    with Image.open(out / "summary.png") as summary:
        assert summary.width > 1000 and len(summary.getcolors(1 << 24)) > 1000


def test_second_demo_replaces_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for scenes in (2, 1):
        assert ovsr(monkeypatch, "demo", "--scenes", scenes, "--out", out, "--device", "cpu") == 0
        for folder in ("images", "targets", "labelled/labels", "labelled/overlays"):
            assert len(list((out / folder).iterdir())) == scenes
        assert json.loads((out / "demo.json").read_text())["scenes"] == scenes


def test_demo_leaves_other_folders_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_text("mine")
    assert ovsr(monkeypatch, "demo", "--scenes", 1, "--out", tmp_path) == 2
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")] == ["images/mine.png"]


def test_labelling_with_the_embedded_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.fromarray(make_scene(0).pixels).save(tmp_path / "scene.png")
    arguments = ["--out", tmp_path / "out", "--classes", "star; ring; sand; sky", "--device", "cpu"]
    assert ovsr(monkeypatch, "label", tmp_path / "scene.png", *arguments, "--model", "embedded") == 0
    assert "not for photographs" in capsys.readouterr().err
    assert_complete(tmp_path / "out", ["scene"])


def test_failed_scene_ends_the_demo_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("ovsr_gpu.pipeline.pixel_features", fail)
    assert ovsr(monkeypatch, "demo", "--scenes", 2, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("ovsr: 2 scenes could not be labelled")
    assert json.loads((tmp_path / "out" / "demo.json").read_text()) == {"state": "not finished"}


def test_full_disk_gives_one_error_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", fail)
    assert ovsr(monkeypatch, "demo", "--scenes", 2, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
