from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.evaluation import PanopticQuality

CLASSES = 3


def random_segments(random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return striped segments of one image; the predicted ones are shifted a little, and both maps have gaps."""
    stripes = np.repeat(np.arange(12), random.integers(1, 9, 12))[:40]
    target = np.tile(np.resize(stripes, 40), (7, 1))
    prediction = np.roll(target, random.integers(-2, 3), axis=1)
    prediction[random.random(prediction.shape) < 0.1] = -1
    target[random.random(target.shape) < 0.2] = -1
    target[:, :8] = -1
    target_class = random.integers(0, CLASSES, 12)
    predicted_class = np.where(random.random(12) < 0.7, target_class, random.integers(0, CLASSES + 1, 12))
    return tuple(torch.tensor(part, device=DEVICE) for part in (prediction, predicted_class, target, target_class))


@pytest.mark.parametrize("seed", range(5))
def test_matches_agree_with_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    panoptic = PanopticQuality(CLASSES)
    tp, fp, fn = ([0] * CLASSES for _ in range(3))
    ious: list[list[float]] = [[] for _ in range(CLASSES)]
    for _ in range(3):
        image = random_segments(random)
        panoptic.update(*image)
        prediction, predicted_class, target, target_class = (part.cpu().numpy() for part in image)
        matched_predictions, matched_targets = set(), set()
        for p in range(12):
            for t in range(12):
                p_mask, t_mask = prediction == p, target == t
                union = ((p_mask & (target >= 0)) | t_mask).sum()
                if union and (p_mask & t_mask).sum() / union > 0.5 and predicted_class[p] == target_class[t]:
                    matched_predictions.add(p)
                    matched_targets.add(t)
                    ious[target_class[t]].append((p_mask & t_mask).sum() / union)
        for p in range(12):
            area, void = (prediction == p).sum(), ((prediction == p) & (target < 0)).sum()
            if p in matched_predictions:
                tp[predicted_class[p]] += 1
            elif area and predicted_class[p] < CLASSES and void / area <= 0.5:
                fp[predicted_class[p]] += 1
        for t in range(12):
            if t not in matched_targets and (target == t).any():
                fn[target_class[t]] += 1
    scores = panoptic.compute()
    assert [scores.true_positives, scores.false_positives, scores.false_negatives] == [tp, fp, fn]
    assert sum(tp) and sum(fp) and sum(fn)
    quality = [np.mean(values) if values else 0 for values in ious]
    f1 = [2 * a / (2 * a + b + c) for a, b, c in zip(tp, fp, fn, strict=True)]
    assert scores.f1 == pytest.approx(f1)
    assert scores.segmentation_quality == pytest.approx(quality)
    assert scores.panoptic_quality == pytest.approx(np.multiply(quality, f1))
    assert scores.precision == pytest.approx([a / max(a + b, 1) for a, b in zip(tp, fp, strict=True)])
    assert scores.recall == pytest.approx([a / max(a + c, 1) for a, c in zip(tp, fn, strict=True)])
    assert scores.macro_panoptic_quality == pytest.approx(np.mean(np.multiply(quality, f1)))


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_quality_agrees_with_torchmetrics(seed: int) -> None:
    """Without "something else": torchmetrics removes it from the target segments, panopticapi does not."""
    detection = pytest.importorskip("torchmetrics.detection")
    random = np.random.default_rng(seed)
    panoptic = PanopticQuality(4)
    reference = detection.PanopticQuality(set(), set(range(4)), return_sq_and_rq=True)
    for _ in range(4):
        target = torch.tensor(np.kron(random.integers(-1, 4, (3, 4)), np.ones((4, 4), int)))
        prediction = torch.tensor(
            np.where(random.random((12, 16)) < 0.3, random.integers(0, 4, (12, 16)), target)
        ).clamp(0)
        panoptic.update(prediction, torch.arange(5), target, torch.arange(4))
        category = torch.stack([prediction, target])
        reference.update(*torch.stack([category, torch.zeros_like(category)], -1)[:, None])
    scores = panoptic.compute()
    macro_scores = [scores.macro_panoptic_quality, scores.macro_segmentation_quality, scores.macro_f1]
    assert macro_scores == pytest.approx(reference.compute().tolist())


def test_match_needs_more_than_half() -> None:
    panoptic = PanopticQuality(2)
    first = torch.tensor([0])
    panoptic.update(torch.tensor([[0, 0, -1]]), first, torch.tensor([[0, -1, 0]]), first)  # IoU 1/2 without void
    assert panoptic.compute().true_positives == [0, 0] and panoptic.compute().false_negatives == [1, 0]
    assert panoptic.compute().false_positives == [1, 0]  # half of it is void, not more
    panoptic.update(torch.tensor([[0, 0, -1]]), first, torch.tensor([[0, 0, 0]]), first)
    scores = panoptic.compute()
    assert scores.true_positives == [1, 0] and scores.precision == [1 / 2, None]
    assert scores.segmentation_quality == pytest.approx([2 / 3, None])
    assert scores.macro_panoptic_quality == pytest.approx(2 / 3 * 1 / 2)
    json.dumps(asdict(scores), allow_nan=False)


def test_something_else_and_void_are_no_false_positives() -> None:
    panoptic = PanopticQuality(2)
    prediction, target = torch.tensor([[0, 0, 1, 1, 1]]), torch.tensor([[0, 0, 0, -1, -1]])
    panoptic.update(prediction, torch.tensor([2, 1]), target, torch.tensor([0]))
    scores = panoptic.compute()
    assert (scores.false_positives, scores.false_negatives) == ([0, 0], [1, 0])
    assert scores.precision == scores.recall == scores.f1 == [0, None]


def test_only_void_has_no_score() -> None:
    panoptic = PanopticQuality(2)
    panoptic.update(torch.zeros(2, 2, dtype=torch.int32), torch.tensor([1]), torch.full((2, 2), -1), torch.arange(2))
    with pytest.raises(ValueError, match="no segment"):
        panoptic.compute()


@pytest.mark.parametrize(
    ("prediction", "predicted_class", "target", "target_class"),
    [([[1]], [0], [[0]], [0]), ([[0]], [3], [[0]], [0]), ([[0]], [0], [[1]], [0]), ([[0]], [0], [[0]], [2])],
)
def test_invalid_segments_are_rejected(prediction, predicted_class, target, target_class) -> None:
    with pytest.raises(ValueError, match="labels must lie in"):
        PanopticQuality(2).update(*map(torch.tensor, (prediction, predicted_class, target, target_class)))
