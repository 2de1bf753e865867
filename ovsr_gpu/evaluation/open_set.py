"""Open-set scores: rejection as "something else" of the classes that are withheld from the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovsr_gpu.evaluation.counts import contingency_tables


@dataclass(frozen=True)
class OpenSetScores:
    """Scores by pixel for the detection of unknown classes.

    Attributes:
        auroc: Area under the ROC curve, computed exactly: the probability that a random pixel of an unknown class has a
            higher score than a random pixel of a known class, where ties count one half (Mann and Whitney 1947).
        precision, recall, f1: Scores of "something else" as the prediction of an unknown class; 0 where a quotient is
            0/0.
    """

    auroc: float
    precision: float
    recall: float
    f1: float


class OpenSet:
    """Accumulator of region scores and rejections, weighted by the pixels of known and of unknown classes."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._rejected: list[Tensor] = []
        self._pixels: list[Tensor] = []  # [N, 2] int64: known, unknown

    def update(self, region_map: Tensor, score: Tensor, is_rejected: Tensor, is_unknown: Tensor) -> None:
        """Add the regions of one image.

        Args:
            region_map: `[H, W]` integers, the region of each pixel.
            score: `[N]` floats, higher for an unknown class, such as the probability of "something else", or
                1 - the maximum probability of the known classes.
            is_rejected: `[N]` bool, whether the region is classified as "something else".
            is_unknown: `[H, W]` integers, 1 where the target class is not in the vocabulary, 0 where it is, -1 for
                void, which is not counted.

        Raises:
            ValueError: A score is NaN, the shapes differ or a label is out of range.
        """
        if len(score) != len(is_rejected):
            raise ValueError(f"there are {len(score)} scores and {len(is_rejected)} decisions")
        if bool(score.isnan().any()):
            raise ValueError("a score is NaN")
        self._pixels.append(contingency_tables(region_map[None], is_unknown[None], len(score), 2)[0])
        self._scores.append(score)
        self._rejected.append(is_rejected)

    def compute(self) -> OpenSetScores:
        """Return the scores.

        Raises:
            ValueError: There are no pixels of known or no pixels of unknown classes.
        """
        num_known, num_unknown = torch.cat(self._pixels).sum(0).tolist() if self._pixels else (0, 0)
        if not (num_known and num_unknown):
            raise ValueError(
                f"pixels of known and of unknown classes are needed; there are {num_known} known and {num_unknown} "
                "unknown ones"
            )
        fp, tp = torch.cat(self._pixels)[torch.cat(self._rejected)].sum(0).tolist()
        return OpenSetScores(
            auroc=self._twice_u_statistic() / (2 * num_known * num_unknown),
            precision=tp / max(tp + fp, 1),
            recall=tp / num_unknown,
            f1=2 * tp / (tp + fp + num_unknown),
        )

    def _twice_u_statistic(self) -> int:
        """Return twice the Mann-Whitney U: 2 for a pixel pair with the unknown one scored higher, 1 for a tie."""
        values, value_index = torch.cat(self._scores).unique(return_inverse=True)
        pixels = torch.cat(self._pixels)
        by_score = torch.zeros(len(values), 2, dtype=torch.int64, device=pixels.device)
        by_score.index_add_(0, value_index, pixels)
        statistic = known_below = 0
        for known, unknown in by_score.tolist():  # Python integers: the product of two areas may exceed 64 bits
            statistic += unknown * (2 * known_below + known)
            known_below += known
        return statistic
