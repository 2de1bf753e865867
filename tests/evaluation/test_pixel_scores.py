from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, precision_recall_fscore_support

from devices import DEVICE
from ovsr_gpu.evaluation import ConfusionMatrix, PixelScores


def scores_of(counts: list[list[int]]) -> PixelScores:
    confusion = ConfusionMatrix(len(counts))
    confusion.matrix = torch.tensor(counts)
    return confusion.compute()


def random_maps(seed: int, classes: int, images: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predicted maps without class 0 and target maps with void and without the last class, `[B, 11, 13]`."""
    random = np.random.default_rng(seed)
    prediction = random.integers(1, classes + 1, (images, 11, 13))
    target = random.integers(-1, classes - 1, prediction.shape)
    prediction[random.random(prediction.shape) < 0.5] = classes - 1
    is_right = (random.random(prediction.shape) < 0.4) & (target > 0)
    prediction[is_right] = target[is_right]
    return torch.tensor(prediction, device=DEVICE), torch.tensor(target, device=DEVICE)


def test_confusion_matrix_by_hand() -> None:
    scores = scores_of([[6, 1, 0, 3], [2, 4, 0, 0], [0, 0, 0, 0]])
    assert scores.iou == [6 / (10 + 8 - 6), 4 / (6 + 5 - 4), None]
    assert scores.precision == [6 / 8, 4 / 5, None]
    assert scores.recall == [6 / 10, 4 / 6, None]
    assert scores.f1 == pytest.approx([12 / 18, 8 / 11, None])
    assert scores.miou == pytest.approx((6 / 12 + 4 / 7) / 2)
    assert scores.pixel_accuracy == 10 / 16
    assert scores.mean_accuracy == pytest.approx((6 / 10 + 4 / 6) / 2)


def test_counts_of_an_image_by_hand() -> None:
    confusion = ConfusionMatrix(3)
    target = torch.tensor([[0, 0, 1, -1], [1, 1, 2, -1]], device=DEVICE)
    prediction = torch.tensor([[0, 3, 1, 3], [0, 1, 3, 0]], dtype=torch.int32, device=DEVICE)
    confusion.update(prediction, target)
    assert confusion.matrix.tolist() == [[1, 0, 0, 1], [1, 2, 0, 0], [0, 0, 0, 1]]
    assert confusion.matrix.device.type == DEVICE.type


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    prediction, target = random_maps(seed, 5)
    confusion = ConfusionMatrix(5)
    for image_prediction, image_target in zip(prediction, target, strict=True):
        confusion.update(image_prediction, image_target)
    scores = confusion.compute()
    valid = (target >= 0).cpu().numpy()
    y_true, y_pred = target.cpu().numpy()[valid], prediction.cpu().numpy()[valid]
    assert confusion.matrix.tolist() == confusion_matrix(y_true, y_pred, labels=range(6))[:5].tolist()
    present = np.unique(y_true)
    assert scores.iou[4] is scores.precision[4] is scores.recall[4] is scores.f1[4] is None
    assert scores.iou[:4] == pytest.approx(jaccard_score(y_true, y_pred, labels=present, average=None))
    precision, recall, f1, _ = precision_recall_fscore_support(y_true, y_pred, labels=present, zero_division=0)
    assert scores.precision[:4] == pytest.approx(precision) and scores.precision[0] == 0
    assert scores.recall[:4] == pytest.approx(recall)
    assert scores.f1[:4] == pytest.approx(f1)
    assert scores.macro_precision == pytest.approx(precision.mean())
    assert scores.mean_accuracy == pytest.approx(recall.mean())
    assert scores.macro_f1 == pytest.approx(f1.mean())
    assert scores.miou == pytest.approx(jaccard_score(y_true, y_pred, labels=present, average="macro"))
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(y_true, y_pred))


@pytest.mark.parametrize("seed", range(3))
def test_mmsegmentation_scores_agree_with_loops(seed: int) -> None:
    prediction, target = random_maps(seed, 5)
    confusion = ConfusionMatrix(5)
    confusion.update(prediction, target)
    pairs = [
        pair for pair in zip(target.flatten().tolist(), prediction.flatten().tolist(), strict=True) if pair[0] >= 0
    ]
    means: dict[str, list[float]] = {name: [] for name in ("mIoU", "mAcc", "mFscore", "mPrecision", "mRecall")}
    for label in range(5):
        tp = sum(true == predicted == label for true, predicted in pairs)
        true, predicted = (sum(pair[index] == label for pair in pairs) for index in (0, 1))
        for name, numerator, denominator in (
            ("mIoU", tp, true + predicted - tp),
            ("mAcc", tp, true),
            ("mPrecision", tp, predicted),
            ("mRecall", tp, true),
        ):
            if denominator:
                means[name].append(numerator / denominator)
        if tp:
            means["mFscore"].append(2 * (tp / predicted) * (tp / true) / (tp / predicted + tp / true))
    expected = {name: sum(values) / len(values) for name, values in means.items()}
    expected["aAcc"] = sum(true == predicted for true, predicted in pairs) / len(pairs)
    scores = confusion.compute()
    assert scores.mmsegmentation == pytest.approx(expected)
    assert scores.mmsegmentation["mIoU"] < scores.miou  # class 4, predicted and never in the target, counts as 0


def test_miou_agrees_with_torchmetrics() -> None:
    classification = pytest.importorskip("torchmetrics.classification")
    prediction, target = torch.randint(0, 4, (2, 9, 9)), torch.randint(-1, 4, (2, 9, 9))
    confusion = ConfusionMatrix(4)
    confusion.update(prediction, target)
    expected = classification.MulticlassJaccardIndex(4, ignore_index=-1)(prediction, target)
    assert confusion.compute().miou == pytest.approx(float(expected))


def test_one_pixel_and_json() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor([[2]]), torch.tensor([[1]]))
    scores = confusion.compute()
    assert scores.iou == [None, 0] and scores.mmsegmentation["mFscore"] is None
    assert json.loads(json.dumps(asdict(scores), allow_nan=False))["miou"] == 0


def test_only_void_has_no_score() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(torch.zeros(3, 3, dtype=torch.int64), torch.full((3, 3), -1))
    with pytest.raises(ValueError, match="no pixel"):
        confusion.compute()


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([[3]], [[0]], "predicted labels must lie in 0..2; got 3..3"),
        ([[-1]], [[0]], "predicted labels"),
        ([[0]], [[2]], "target labels must lie in -1..1"),
        ([[0]], [[255]], "got 255..255"),
        ([[0, 1]], [[0]], "shape"),
        ([[float("nan")]], [[0]], "integers"),
    ],
)
def test_invalid_labels_are_rejected(prediction: list[list[int]], target: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(2).update(torch.tensor(prediction), torch.tensor(target))
