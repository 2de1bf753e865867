from __future__ import annotations

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.evaluation import Calibration


def calibration_error(confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray) -> float:
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15) | (confidence == 0) & (number == 0)
        fraction = weight[inside].sum() / weight.sum()
        if fraction:
            accuracy, mean = (np.average(values[inside], weights=weight[inside]) for values in (correct, confidence))
            total += fraction * abs(accuracy - mean)
    return total


def random_regions(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    confidence = np.concatenate([random.random(60) ** 0.3, [0, 1, 3 / 15, 1 / 3]]).astype(np.float32)
    return confidence, random.random(64) < confidence**2, random.integers(1, 500, 64)


@pytest.mark.parametrize("seed", range(3))
def test_errors_agree_with_loops(seed: int) -> None:
    confidence, correct, areas = random_regions(seed)
    calibration = Calibration()
    for rows in (slice(0, 20), slice(20, 64)):
        calibration.update(*(torch.tensor(column[rows], device=DEVICE) for column in (confidence, correct, areas)))
    result = calibration.compute()
    exact = confidence.astype(np.float64)
    assert result.ece == pytest.approx(calibration_error(exact, correct, np.ones(64)))
    assert result.area_weighted_ece == pytest.approx(calibration_error(exact, correct, areas))


def test_ece_agrees_with_torchmetrics() -> None:
    classification = pytest.importorskip("torchmetrics.classification")
    confidence, correct, areas = (torch.tensor(column[:60]) for column in random_regions(7))
    calibration = Calibration()
    calibration.update(confidence, correct, areas)
    expected = classification.BinaryCalibrationError(n_bins=15, norm="l1")(confidence, correct.int())
    assert calibration.compute().ece == pytest.approx(float(expected), abs=1e-6)


def test_by_hand() -> None:
    calibration = Calibration()
    calibration.update(torch.tensor([0.9, 0.9, 0.5]), torch.tensor([True, False, True]), torch.tensor([30, 10, 0]))
    result = calibration.compute()
    assert result.ece == pytest.approx(0.4)
    assert result.area_weighted_ece == pytest.approx(0.9 - 30 / 40)


def test_edge_belongs_to_the_lower_bin() -> None:
    calibration = Calibration()
    confidence = torch.tensor([3 / 15, 0.25], dtype=torch.float64)
    calibration.update(confidence, torch.tensor([False, True]), torch.ones(2, dtype=torch.int64))
    assert calibration.compute().ece == pytest.approx((3 / 15 + 0.75) / 2)


@pytest.mark.parametrize("confidence", [torch.nan, -0.1, 1.1])
def test_invalid_confidences_are_rejected(confidence: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        Calibration().update(torch.tensor([confidence]), torch.tensor([True]), torch.tensor([1]))


def test_no_regions() -> None:
    calibration = Calibration()
    calibration.update(torch.zeros(0), torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="no region"):
        calibration.compute()
