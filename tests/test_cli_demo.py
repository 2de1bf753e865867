"""`ovsr demo` and `--model embedded` from outside, with the models that the package brings along."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_session import assert_complete

import ovsr_gpu
from ovsr_gpu.cli import main
from ovsr_gpu.evaluation import PixelConfusion
from ovsr_gpu.synthetic.scenes import CLASSES, make_scene

NAMES = ["scene-000", "scene-001", "scene-002"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the attempt to look a host up or to connect fails the test."""

    def refuse(event: str, arguments: object) -> None:
        if active and event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}:
            attempts.append((event, arguments))

    sys.addaudithook(refuse)  # cannot be taken out again, only switched off
    active, attempts = [True], []
    yield
    active.clear()
    assert not attempts


def ovsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsr", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert ovsr(monkeypatch, "demo", "--scenes", 3, "--json", "scores/demo.json", "--device", "cpu") == 0
    said = capsys.readouterr()
    assert "not for photographs" in said.err and "Making 3 scenes" in said.err
    scores = json.loads((tmp_path / "scores" / "demo.json").read_text())
    assert scores == json.loads((tmp_path / "ovsr-demo" / "demo.json").read_text())
    assert scores["scenes"] == 3 and scores["device"] == "cpu" and scores["images_per_second"] > 0
    assert scores["versions"]["ovsr-gpu"] == ovsr_gpu.__version__
    assert f"{scores['labelled_miou']:.3f}" in said.out and f"{scores['hungarian_miou']:.3f}" in said.out

    out = tmp_path / "ovsr-demo"
    assert_complete(out / "labelled", NAMES)
    confusion = PixelConfusion(len(CLASSES))
    for seed, name in enumerate(NAMES):
        scene = make_scene(seed)
        assert (np.asarray(Image.open(out / "images" / f"{name}.png")) == scene.pixels).all()
        assert (np.asarray(Image.open(out / "truth" / f"{name}.png")) == scene.labels).all()
        found = np.asarray(Image.open(out / "labelled" / "labels" / f"{name}.png"))
        confusion.update(torch.tensor(found), torch.tensor(scene.labels))
    assert scores["labelled_miou"] == pytest.approx(confusion.result().miou, abs=1e-4)
    assert 0.4 < scores["labelled_miou"] <= 1 and 0.6 < scores["hungarian_miou"] <= 1
    with Image.open(out / "summary.png") as summary:
        assert summary.width > 1000 and len(summary.getcolors(1 << 24)) > 1000


def test_a_second_demo_replaces_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for scenes in (2, 1):
        assert ovsr(monkeypatch, "demo", "--scenes", scenes, "--out", out, "--device", "cpu") == 0
        for folder in ("images", "truth", "labelled/labels", "labelled/overlays"):
            assert len(list((out / folder).iterdir())) == scenes
        assert json.loads((out / "demo.json").read_text())["scenes"] == scenes


def test_a_demo_keeps_off_other_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


def test_a_scene_that_cannot_be_labelled_ends_the_demo_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("ovsr_gpu.pipeline.pixel_features", break_down)
    assert ovsr(monkeypatch, "demo", "--scenes", 2, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("ovsr: 2 scenes could not be labelled")
    assert json.loads((tmp_path / "out" / "demo.json").read_text()) == {"state": "not finished"}


def test_a_full_disk_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", fill)
    assert ovsr(monkeypatch, "demo", "--scenes", 2, "--out", tmp_path / "out", "--device", "cpu") == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
