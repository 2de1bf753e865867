"""`ovsr eval` on a folder of scenes, its scores counted again by plain NumPy and scikit-learn."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, roc_auc_score

from ovsr_gpu import Segmenter
from ovsr_gpu.cli import main
from ovsr_gpu.models.embedded import EMBEDDED
from ovsr_gpu.synthetic.scenes import CLASSES, make_scene
from ovsr_gpu.vocabulary import Vocabulary

SEEDS = range(10, 14)
WITHHELD = ("grass", "star", "sky")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes as a dataset, some of their pixels void, one of them smaller than the others."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for seed in SEEDS:
        scene = make_scene(seed)
        labels = scene.labels.astype(np.uint8)
        labels[:5] = 255
        size = 150 if seed == 12 else None
        Image.fromarray(scene.pixels[:size]).save(folder / "images" / f"{seed}.png")
        Image.fromarray(labels[:size]).save(folder / "labels" / f"{seed}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained(backbone_weights=EMBEDDED, clip=EMBEDDED, device="cpu")


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    command = ["ovsr", "eval", *map(str, arguments), "--model", "embedded", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def scores(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: object) -> dict[str, Any]:
    assert evaluate(monkeypatch, *arguments, "--out", out) == 0
    return json.loads((out / "scores.json").read_text())


def truth(folder: Path, seed: int) -> np.ndarray:
    return np.asarray(Image.open(folder / "labels" / f"{seed}.png")).astype(int)


def test_a_folder(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    segmenter: Segmenter,
    tmp_path: Path,
) -> None:
    found = scores(monkeypatch, tmp_path, "folder", "--root", folder, "--batch-size", 4)
    predictions = [segmenter([folder / "images" / f"{seed}.png"], CLASSES) for seed in SEEDS]
    truths = [truth(folder, seed) for seed in SEEDS]
    known = np.concatenate([one.ravel() for one in truths])
    named = np.concatenate([prediction.class_map[0].numpy().ravel() for prediction in predictions])
    table = confusion_matrix(known[known < 255], named[known < 255], labels=range(len(CLASSES) + 1))[:-1]
    hits, true = np.diag(table), table.sum(1)
    iou = hits / (true + table.sum(0)[:-1] - hits)
    assert found["scores"]["pixels"]["miou"] == pytest.approx(iou[true > 0].mean())
    assert found["scores"]["pixels"]["pixel_accuracy"] == pytest.approx(hits.sum() / true.sum())
    assert found["scores"]["regions"] == sum(len(prediction.regions) for prediction in predictions)
    right, confidence = [], []
    for prediction, own in zip(predictions, truths, strict=True):
        for region, score in enumerate(prediction.regions.score.tolist()):
            inside = own[(prediction.region_map[0].numpy() == region) & (own < 255)]
            if len(inside):
                right.append(np.bincount(inside).argmax() == prediction.regions.class_index[region])
                confidence.append(score)
    bins = np.ceil(np.array(confidence) * 15).clip(1, 15)
    gaps = [abs(np.sum((np.array(right) - confidence)[bins == number])) for number in range(1, 16)]
    assert found["scores"]["calibration"]["ece"] == pytest.approx(sum(gaps) / len(right), abs=1e-6)
    assert found["scores"]["open_set"] is None and found["images"] == 4
    assert found["config"]["preset"] == "default" and "versions" in found and found["classes"] == list(CLASSES)
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [str(seed) for seed in SEEDS]
    for row, prediction, own in zip(rows, predictions, truths, strict=True):
        right = (prediction.class_map[0].numpy() == own)[own < 255]
        assert float(row["pixel_accuracy"]) == pytest.approx(right.mean())
        assert int(row["regions"]) == len(prediction.regions)
    assert (tmp_path / "scores.html").exists() and "star" in (tmp_path / "classes.svg").read_text()
    page = (tmp_path / "scores.md").read_text()
    miou = f"{100 * found['scores']['pixels']['miou']:.1f}"
    assert f"| labelled mIoU | {miou} |" in page and "| star |" in page
    assert f"labelled mIoU                                {miou}" in capsys.readouterr().out


@pytest.mark.parametrize("prompt", ["something else", ""])
def test_withheld_classes(
    monkeypatch: pytest.MonkeyPatch, folder: Path, segmenter: Segmenter, tmp_path: Path, prompt: str
) -> None:
    arguments = ["--withhold", "; ".join(WITHHELD), "--something-else", prompt, "--threshold", 0.5]
    found = scores(monkeypatch, tmp_path, "folder", "--root", folder, *arguments)
    rest = Vocabulary.parse([name for name in CLASSES if name not in WITHHELD])
    config = found["config"]["recognition"]
    assert (config["something_else"], config["threshold"]) == ([prompt] if prompt else [], 0.5)
    monkeypatch.setattr(
        segmenter.pipeline,
        "config",
        segmenter.config.__class__(
            recognition=segmenter.config.recognition.__class__(
                something_else=(prompt,) if prompt else (), threshold=0.5
            )
        ),
    )
    monkeypatch.setattr(segmenter.pipeline, "_texts", {})
    unknown, score, rejected = [], [], []
    for seed in SEEDS:
        prediction = segmenter([folder / "images" / f"{seed}.png"], rest)
        own = truth(folder, seed)
        region = prediction.region_map[0][torch.from_numpy(own < 255)].long()
        probabilities = prediction.regions.probabilities
        by_region = probabilities[:, -1] if prompt else 1 - probabilities[:, :-1].max(1).values
        unknown.append(np.isin(own[own < 255], [CLASSES.index(name) for name in WITHHELD]))
        score.append(by_region[region].numpy())
        rejected.append((prediction.regions.class_index == len(rest))[region].numpy())
    labels, values, decisions = (np.concatenate(one) for one in (unknown, score, rejected))
    assert labels.any() and decisions.any()
    assert found["scores"]["open_set"]["auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-6)
    hits = (labels & decisions).sum()
    assert found["scores"]["open_set"]["f1"] == pytest.approx(2 * hits / (labels.sum() + decisions.sum()), abs=1e-6)
    assert len(found["scores"]["pixels"]["iou"]) == len(rest)


def test_mistakes_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad" / "images").mkdir(parents=True)
    for arguments, message in (
        (["imagenet", "--root", folder], "no dataset 'imagenet'; there are voc20"),
        (["voc20", "--root", folder], "ImageSets/Segmentation/val.txt"),
        (["folder", "--root", folder, "--withhold", "zebra"], "no class 'zebra'"),
        (["folder", "--root", folder, "--withhold", "; ".join(CLASSES)], "all classes are withheld"),
        (["folder", "--root", folder, "--batch-size", 0], "--batch-size"),
        (["folder", "--root", folder, "--encoder", "crops"], "regions.encoder must be one of"),
        (["folder", "--root", folder, "--protocol", "sclip"], "no settings for 'folder'; it has some for voc20"),
    ):
        assert evaluate(monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert said.count("ovsr: ") == 1 and message in said


def test_an_image_that_cannot_be_read_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "10.png").write_bytes((folder / name / "10.png").read_bytes())
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    broken = tmp_path / "images" / "10.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    assert evaluate(monkeypatch, "folder", "--root", tmp_path) == 2
    assert "10.png" in capsys.readouterr().err
