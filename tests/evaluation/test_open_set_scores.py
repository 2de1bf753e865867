from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from devices import DEVICE
from ovsr_gpu.evaluation import OpenSet


@pytest.mark.parametrize("steps", [3, 10, 1000], ids=["many ties", "ties", "few ties"])
def test_scores_agree_with_scikit_learn(steps: int) -> None:
    random = np.random.default_rng(steps)
    open_set = OpenSet()
    scores, decisions, targets = [], [], []
    for _ in range(3):
        regions = random.integers(0, 8, (9, 10))
        score = (random.integers(0, steps, 8) / steps).astype(np.float32)
        rejected = random.random(8) < 0.4
        unknown = np.where(random.random((9, 10)) < score[regions], 1, random.integers(-1, 1, (9, 10)))
        open_set.update(*(torch.tensor(part, device=DEVICE) for part in (regions, score, rejected, unknown)))
        valid = unknown >= 0
        scores += [score[regions][valid]]
        decisions += [rejected[regions][valid]]
        targets += [unknown[valid]]
    result = open_set.compute()
    target, decision = np.concatenate(targets), np.concatenate(decisions)
    assert result.auroc == pytest.approx(roc_auc_score(target, np.concatenate(scores)), abs=1e-12)
    expected = precision_recall_fscore_support(target, decision, average="binary")[:3]
    assert (result.precision, result.recall, result.f1) == pytest.approx(expected)


def test_areas_are_weights() -> None:
    random = np.random.default_rng(0)
    score, unknown, area = random.integers(0, 5, 30) / 5, random.integers(0, 2, 30), random.integers(1, 40, 30)
    open_set = OpenSet()
    regions = torch.tensor(np.repeat(np.arange(30), area))
    open_set.update(regions, torch.tensor(score), torch.tensor(score) > 0.5, torch.tensor(unknown)[regions])
    assert open_set.compute().auroc == pytest.approx(roc_auc_score(unknown, score, sample_weight=area), abs=1e-12)


def test_areas_whose_product_exceeds_64_bits() -> None:
    open_set = OpenSet()
    open_set.update(torch.tensor([0, 1]), torch.tensor([0.2, 0.7]), torch.tensor([False, True]), torch.tensor([0, 1]))
    open_set._pixels[0] *= 10**11
    assert open_set.compute().auroc == open_set.compute().f1 == 1


@pytest.mark.parametrize(("scores", "auroc"), [([0.1, 0.9], 1.0), ([0.9, 0.1], 0.0), ([0.5, 0.5], 0.5)])
def test_two_pixels(scores: list[float], auroc: float) -> None:
    open_set = OpenSet()
    open_set.update(torch.tensor([[0, 1]]), torch.tensor(scores), torch.zeros(2, dtype=bool), torch.tensor([[0, 1]]))
    result = open_set.compute()
    assert (result.auroc, result.precision, result.recall, result.f1) == (auroc, 0, 0, 0)


@pytest.mark.parametrize("unknown", [0, 1, -1])
def test_known_and_unknown_pixels_are_needed(unknown: int) -> None:
    open_set = OpenSet()
    with pytest.raises(ValueError, match="known and of unknown"):
        open_set.compute()
    open_set.update(torch.tensor([[0]]), torch.tensor([0.5]), torch.tensor([True]), torch.tensor([[unknown]]))
    with pytest.raises(ValueError, match="known and of unknown"):
        open_set.compute()


def test_nan_and_missing_decisions_are_rejected() -> None:
    regions = torch.zeros(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="NaN"):
        OpenSet().update(regions, torch.tensor([torch.nan]), torch.tensor([True]), regions)
    with pytest.raises(ValueError, match="2 scores and 1 decisions"):
        OpenSet().update(regions, torch.zeros(2), torch.tensor([True]), regions)
