"""Whether regions are right as often as their confidence says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

BINS = 15


@dataclass(frozen=True)
class CalibrationScores:
    """Expected calibration error (Guo et al. 2017): the sum over bins of fraction of the bin x |accuracy - confidence|.

    ece: with every region weighing the same. area_weighted_ece: with every pixel of the regions weighing the same.
    accuracy: the fraction of the regions that are right.
    """

    ece: float
    area_weighted_ece: float
    accuracy: float


class Calibration:
    """Confidences of regions in 15 bins of equal width, (0, 1/15] to (14/15, 1]; 0 goes to the first."""

    def __init__(self) -> None:
        self._sums = torch.zeros(2, 3, BINS, dtype=torch.float64)

    def update(self, confidence: Tensor, correct: Tensor, areas: Tensor) -> None:
        """Count regions of one or more images.

        confidence: `[N]` floats in [0, 1]. correct: `[N]` bool. areas: `[N]` integers, the weight in pixels; a region
        without area counts nowhere. Raises ValueError for other confidences, NaN among them.
        """
        if not bool(((confidence >= 0) & (confidence <= 1)).all()):
            raise ValueError("a confidence lies outside [0, 1]")
        confidence = confidence.double()
        inner = torch.arange(1, BINS, dtype=torch.float64, device=confidence.device) / BINS
        bins = one_hot(torch.bucketize(confidence, inner), BINS).double()
        weights = torch.stack([areas > 0, areas]).double()
        values = torch.stack([torch.ones_like(confidence), correct.double(), confidence])
        sums = (weights[:, None] * values) @ bins
        self._sums = self._sums.to(sums.device) + sums

    def result(self) -> CalibrationScores:
        """Errors and accuracy. Raises ValueError where no region was counted."""
        weight, correct, confidence = self._sums.cpu().unbind(1)
        if not weight.any():
            raise ValueError("no region was counted")
        plain, weighted = ((correct - confidence).abs().sum(1) / weight.sum(1)).tolist()
        accuracy = (correct[0].sum() / weight[0].sum()).item()
        return CalibrationScores(ece=plain, area_weighted_ece=weighted, accuracy=accuracy)
