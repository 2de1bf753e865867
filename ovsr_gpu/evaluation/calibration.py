"""Calibration: how well the confidence of regions matches their accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

NUM_BINS = 15


@dataclass(frozen=True)
class CalibrationScores:
    """Expected calibration error (Guo et al. 2017): the weighted mean of |accuracy - confidence| over the bins.

    Attributes:
        ece: The error with the same weight for every region.
        area_weighted_ece: The error with each region weighted by its area.
        accuracy: Fraction of the regions with the right class.
    """

    ece: float
    area_weighted_ece: float
    accuracy: float


class Calibration:
    """Accumulator of region confidences in 15 bins of equal width, (0, 1/15] to (14/15, 1]; 0 is in the first bin."""

    def __init__(self) -> None:
        self._sums = torch.zeros(2, 3, NUM_BINS, dtype=torch.float64)

    def update(self, confidence: Tensor, is_correct: Tensor, areas: Tensor) -> None:
        """Add the regions of one or more images.

        Args:
            confidence: `[N]` floats in [0, 1].
            is_correct: `[N]` bool, whether the region has the right class.
            areas: `[N]` integers, the area in pixels, which is the weight; a region with an area of 0 is not counted.

        Raises:
            ValueError: A confidence is NaN or outside [0, 1].
        """
        if not bool(((confidence >= 0) & (confidence <= 1)).all()):
            raise ValueError("a confidence lies outside [0, 1]")
        confidence = confidence.double()
        inner_edges = torch.arange(1, NUM_BINS, dtype=torch.float64, device=confidence.device) / NUM_BINS
        bins = one_hot(torch.bucketize(confidence, inner_edges), NUM_BINS).double()
        weights = torch.stack([areas > 0, areas]).double()
        values = torch.stack([torch.ones_like(confidence), is_correct.double(), confidence])
        sums = (weights[:, None] * values) @ bins
        self._sums = self._sums.to(sums.device) + sums

    def compute(self) -> CalibrationScores:
        """Return the calibration errors and the accuracy.

        Raises:
            ValueError: No region was counted.
        """
        weight, correct, confidence = self._sums.cpu().unbind(1)
        if not weight.any():
            raise ValueError("no region was counted")
        ece, area_weighted_ece = ((correct - confidence).abs().sum(1) / weight.sum(1)).tolist()
        accuracy = (correct[0].sum() / weight[0].sum()).item()
        return CalibrationScores(ece=ece, area_weighted_ece=area_weighted_ece, accuracy=accuracy)
