from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, precision_recall_fscore_support

from devices import DEVICE
from ovsr_gpu.evaluation import PixelConfusion, PixelScores


def scores_of(counts: list[list[int]]) -> PixelScores:
    confusion = PixelConfusion(len(counts))
    confusion.counts = torch.tensor(counts)
    return confusion.result()


def random_maps(seed: int, classes: int, images: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Class maps and true ones `[B, 11, 13]` with void; the last class never true, the first never predicted."""
    random = np.random.default_rng(seed)
    found = random.integers(1, classes + 1, (images, 11, 13))
    truth = random.integers(-1, classes - 1, found.shape)
    found[random.random(found.shape) < 0.5] = classes - 1
    agree = (random.random(found.shape) < 0.4) & (truth > 0)
    found[agree] = truth[agree]
    return torch.tensor(found, device=DEVICE), torch.tensor(truth, device=DEVICE)


def test_a_table_by_hand() -> None:
    scores = scores_of([[6, 1, 0, 3], [2, 4, 0, 0], [0, 0, 0, 0]])
    assert scores.iou == [6 / (10 + 8 - 6), 4 / (6 + 5 - 4), None]
    assert scores.precision == [6 / 8, 4 / 5, None]
    assert scores.recall == [6 / 10, 4 / 6, None]
    assert scores.f1 == pytest.approx([12 / 18, 8 / 11, None])
    assert scores.miou == pytest.approx((6 / 12 + 4 / 7) / 2)
    assert scores.pixel_accuracy == 10 / 16
    assert scores.mean_accuracy == pytest.approx((6 / 10 + 4 / 6) / 2)


def test_counts_of_a_image_by_hand() -> None:
    confusion = PixelConfusion(3)
    truth = torch.tensor([[0, 0, 1, -1], [1, 1, 2, -1]], device=DEVICE)
    found = torch.tensor([[0, 3, 1, 3], [0, 1, 3, 0]], dtype=torch.int32, device=DEVICE)
    confusion.update(found, truth)
    assert confusion.counts.tolist() == [[1, 0, 0, 1], [1, 2, 0, 0], [0, 0, 0, 1]]
    assert confusion.counts.device.type == DEVICE.type


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    found, truth = random_maps(seed, 5)
    confusion = PixelConfusion(5)
    for one, its_truth in zip(found, truth, strict=True):
        confusion.update(one, its_truth)
    scores = confusion.result()
    known = (truth >= 0).cpu().numpy()
    there, here = truth.cpu().numpy()[known], found.cpu().numpy()[known]
    assert confusion.counts.tolist() == confusion_matrix(there, here, labels=range(6))[:5].tolist()
    occurring = np.unique(there)
    assert scores.iou[4] is scores.precision[4] is scores.recall[4] is scores.f1[4] is None
    assert scores.iou[:4] == pytest.approx(jaccard_score(there, here, labels=occurring, average=None))
    precision, recall, f1, _ = precision_recall_fscore_support(there, here, labels=occurring, zero_division=0)
    assert scores.precision[:4] == pytest.approx(precision) and scores.precision[0] == 0
    assert scores.recall[:4] == pytest.approx(recall)
    assert scores.f1[:4] == pytest.approx(f1)
    assert scores.macro_precision == pytest.approx(precision.mean())
    assert scores.mean_accuracy == pytest.approx(recall.mean())
    assert scores.macro_f1 == pytest.approx(f1.mean())
    assert scores.miou == pytest.approx(jaccard_score(there, here, labels=occurring, average="macro"))
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(there, here))


@pytest.mark.parametrize("seed", range(3))
def test_mmsegmentation_by_plain_loops(seed: int) -> None:
    found, truth = random_maps(seed, 5)
    confusion = PixelConfusion(5)
    confusion.update(found, truth)
    pairs = [pair for pair in zip(truth.flatten().tolist(), found.flatten().tolist(), strict=True) if pair[0] >= 0]
    means: dict[str, list[float]] = {name: [] for name in ("mIoU", "mAcc", "mFscore", "mPrecision", "mRecall")}
    for label in range(5):
        both = sum(true == one == label for true, one in pairs)
        true, one = (sum(pair[side] == label for pair in pairs) for side in (0, 1))
        for name, part, whole in (
            ("mIoU", both, true + one - both),
            ("mAcc", both, true),
            ("mPrecision", both, one),
            ("mRecall", both, true),
        ):
            if whole:
                means[name].append(part / whole)
        if both:
            means["mFscore"].append(2 * (both / one) * (both / true) / (both / one + both / true))
    expected = {name: sum(values) / len(values) for name, values in means.items()}
    expected["aAcc"] = sum(true == one for true, one in pairs) / len(pairs)
    scores = confusion.result()
    assert scores.mmsegmentation == pytest.approx(expected)
    assert scores.mmsegmentation["mIoU"] < scores.miou  # class 4, predicted and never true, counts as 0


def test_miou_is_that_of_torchmetrics_where_all_classes_occur() -> None:
    segmentation = pytest.importorskip("torchmetrics.classification")
    found, truth = torch.randint(0, 4, (2, 9, 9)), torch.randint(-1, 4, (2, 9, 9))
    confusion = PixelConfusion(4)
    confusion.update(found, truth)
    theirs = segmentation.MulticlassJaccardIndex(4, ignore_index=-1)(found, truth)
    assert confusion.result().miou == pytest.approx(float(theirs))


def test_one_pixel_and_a_result_for_json() -> None:
    confusion = PixelConfusion(2)
    confusion.update(torch.tensor([[2]]), torch.tensor([[1]]))
    scores = confusion.result()
    assert scores.iou == [None, 0] and scores.mmsegmentation["mFscore"] is None
    assert json.loads(json.dumps(asdict(scores), allow_nan=False))["miou"] == 0


def test_void_alone_has_no_score() -> None:
    confusion = PixelConfusion(2)
    confusion.update(torch.zeros(3, 3, dtype=torch.int64), torch.full((3, 3), -1))
    with pytest.raises(ValueError, match="no pixel"):
        confusion.result()


@pytest.mark.parametrize(
    ("found", "truth", "reason"),
    [
        ([[3]], [[0]], "found labels must lie in 0..2; got 3..3"),
        ([[-1]], [[0]], "found labels"),
        ([[0]], [[2]], "true labels must lie in -1..1"),
        ([[0]], [[255]], "got 255..255"),
        ([[0, 1]], [[0]], "shape"),
        ([[float("nan")]], [[0]], "integers"),
    ],
)
def test_other_labels_are_refused(found: list[list[int]], truth: list[list[int]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PixelConfusion(2).update(torch.tensor(found), torch.tensor(truth))
