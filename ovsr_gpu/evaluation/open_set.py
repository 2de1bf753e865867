"""Rejection: "something else", where some classes of the images are kept out of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovsr_gpu.evaluation.counts import joint_counts


@dataclass(frozen=True)
class OpenSetScores:
    """Scores by pixel.

    auroc: area under the ROC curve of the score, the probability that a random pixel of an unknown class scores higher
    than one of a known class, ties counting half (Mann and Whitney 1947; exact). precision, recall, f1: of the decision
    "something else" as the finding of unknown pixels; 0 where a quotient is 0/0.
    """

    auroc: float
    precision: float
    recall: float
    f1: float


class OpenSet:
    """Scores and decisions of regions, weighted by their pixels of known and of unknown classes."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._rejected: list[Tensor] = []
        self._pixels: list[Tensor] = []

    def update(self, regions: Tensor, score: Tensor, rejected: Tensor, unknown: Tensor) -> None:
        """Count one image.

        regions: `[H, W]` integers, each pixel's region. score: `[N]` floats, higher for "something else", such as its
        probability, or 1 - the largest probability of a known class. rejected: `[N]` bool, whether the region was
        called "something else". unknown: `[H, W]` integers, 1 where the true class is not in the vocabulary, 0 where
        it is, -1 for void, which counts nowhere.
        Raises ValueError for a NaN score, other labels and shapes that differ.
        """
        if len(score) != len(rejected):
            raise ValueError(f"there are {len(score)} scores and {len(rejected)} decisions")
        if bool(score.isnan().any()):
            raise ValueError("a score is NaN")
        self._pixels.append(joint_counts(regions[None], unknown[None], len(score), 2)[0])
        self._scores.append(score)
        self._rejected.append(rejected)

    def result(self) -> OpenSetScores:
        """The scores. Raises ValueError unless pixels of both known and unknown classes were counted."""
        known, unknown = torch.cat(self._pixels).sum(0).tolist() if self._pixels else (0, 0)
        if not (known and unknown):
            raise ValueError(f"both kinds of pixels are needed; there are {known} known and {unknown} unknown ones")
        false_alarms, hits = torch.cat(self._pixels)[torch.cat(self._rejected)].sum(0).tolist()
        return OpenSetScores(
            auroc=self._wins() / (2 * known * unknown),
            precision=hits / max(hits + false_alarms, 1),
            recall=hits / unknown,
            f1=2 * hits / (hits + false_alarms + unknown),
        )

    def _wins(self) -> int:
        """Twice the number of pairs of an unknown and a known pixel of which the unknown one scores higher."""
        values, place = torch.cat(self._scores).unique(return_inverse=True)
        pixels = torch.cat(self._pixels)
        by_score = torch.zeros(len(values), 2, dtype=torch.int64, device=pixels.device).index_add_(0, place, pixels)
        wins = below = 0
        for known, unknown in by_score.tolist():  # Python's integers: the product of two areas may exceed 64 bits
            wins += unknown * (2 * below + known)
            below += known
        return wins
