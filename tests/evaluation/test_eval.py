"""`ovsr eval` on a folder of scenes; its scores are computed again with NumPy and scikit-learn."""

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
    """Write scenes as a dataset, with some void pixels and one smaller image."""
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


def read_target(folder: Path, seed: int) -> np.ndarray:
    return np.asarray(Image.open(folder / "labels" / f"{seed}.png")).astype(int)


def test_folder(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    segmenter: Segmenter,
    tmp_path: Path,
) -> None:
    report = scores(monkeypatch, tmp_path, "folder", "--root", folder, "--batch-size", 4)
    predictions = [segmenter([folder / "images" / f"{seed}.png"], CLASSES) for seed in SEEDS]
    targets = [read_target(folder, seed) for seed in SEEDS]
    true = np.concatenate([target.ravel() for target in targets])
    predicted = np.concatenate([prediction.class_map[0].numpy().ravel() for prediction in predictions])
    table = confusion_matrix(true[true < 255], predicted[true < 255], labels=range(len(CLASSES) + 1))[:-1]
    tp, num_target = np.diag(table), table.sum(1)
    iou = tp / (num_target + table.sum(0)[:-1] - tp)
    assert report["scores"]["pixels"]["miou"] == pytest.approx(iou[num_target > 0].mean())
    assert report["scores"]["pixels"]["pixel_accuracy"] == pytest.approx(tp.sum() / num_target.sum())
    assert report["scores"]["regions"] == sum(len(prediction.regions) for prediction in predictions)
    is_correct, confidence = [], []
    for prediction, target in zip(predictions, targets, strict=True):
        for region, score in enumerate(prediction.regions.score.tolist()):
            region_target = target[(prediction.region_map[0].numpy() == region) & (target < 255)]
            if len(region_target):
                is_correct.append(np.bincount(region_target).argmax() == prediction.regions.class_index[region])
                confidence.append(score)
    bins = np.ceil(np.array(confidence) * 15).clip(1, 15)
    gaps = [abs(np.sum((np.array(is_correct) - confidence)[bins == number])) for number in range(1, 16)]
    assert report["scores"]["calibration"]["ece"] == pytest.approx(sum(gaps) / len(is_correct), abs=1e-6)
    assert report["scores"]["open_set"] is None and report["images"] == 4
    assert report["config"]["preset"] == "default" and "versions" in report and report["classes"] == list(CLASSES)
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [str(seed) for seed in SEEDS]
    for row, prediction, target in zip(rows, predictions, targets, strict=True):
        is_right = (prediction.class_map[0].numpy() == target)[target < 255]
        assert float(row["pixel_accuracy"]) == pytest.approx(is_right.mean())
        assert int(row["regions"]) == len(prediction.regions)
    assert (tmp_path / "scores.html").exists() and "star" in (tmp_path / "classes.svg").read_text()
    page = (tmp_path / "scores.md").read_text()
    miou = f"{100 * report['scores']['pixels']['miou']:.1f}"
    assert f"| labelled mIoU | {miou} |" in page and "| star |" in page
    assert f"labelled mIoU                                {miou}" in capsys.readouterr().out


@pytest.mark.parametrize("prompt", ["something else", ""])
def test_withheld_classes(
    monkeypatch: pytest.MonkeyPatch, folder: Path, segmenter: Segmenter, tmp_path: Path, prompt: str
) -> None:
    arguments = ["--withhold", "; ".join(WITHHELD), "--something-else", prompt, "--threshold", 0.5]
    report = scores(monkeypatch, tmp_path, "folder", "--root", folder, *arguments)
    rest = Vocabulary.parse([name for name in CLASSES if name not in WITHHELD])
    config = report["config"]["recognition"]
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
        target = read_target(folder, seed)
        region = prediction.region_map[0][torch.from_numpy(target < 255)].long()
        probabilities = prediction.regions.probabilities
        by_region = probabilities[:, -1] if prompt else 1 - probabilities[:, :-1].max(1).values
        unknown.append(np.isin(target[target < 255], [CLASSES.index(name) for name in WITHHELD]))
        score.append(by_region[region].numpy())
        rejected.append((prediction.regions.class_index == len(rest))[region].numpy())
    labels, values, decisions = (np.concatenate(column) for column in (unknown, score, rejected))
    assert labels.any() and decisions.any()
    assert report["scores"]["open_set"]["auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-6)
    tp = (labels & decisions).sum()
    assert report["scores"]["open_set"]["f1"] == pytest.approx(2 * tp / (labels.sum() + decisions.sum()), abs=1e-6)
    assert len(report["scores"]["pixels"]["iou"]) == len(rest)


def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad" / "images").mkdir(parents=True)
    for arguments, message in (
        (["imagenet", "--root", folder], "no dataset 'imagenet'; the datasets are voc20"),
        (["voc20", "--root", folder], "ImageSets/Segmentation/val.txt"),
        (["folder", "--root", folder, "--withhold", "zebra"], "cannot withhold 'zebra'"),
        (["folder", "--root", folder, "--withhold", "; ".join(CLASSES)], "all classes are withheld"),
        (["folder", "--root", folder, "--batch-size", 0], "--batch-size"),
        (["folder", "--root", folder, "--encoder", "crops"], "regions.encoder must be one of"),
        (["folder", "--root", folder, "--protocol", "sclip"], "no settings for 'folder'; choose one of voc20"),
    ):
        assert evaluate(monkeypatch, *arguments) == 2
        output = capsys.readouterr().err
        assert output.count("ovsr: ") == 1 and message in output


def test_unreadable_image_ends_the_evaluation(
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
