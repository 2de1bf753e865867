"""Scores of each image, and the selection of the best and the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovsr_gpu.evaluation.counts import json_list, ratio
from ovsr_gpu.results import LabelledRegions, expected_errors


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image, a row of `images.csv`. Void pixels are not counted in `miou` and `pixel_accuracy`.

    Attributes:
        name: The name of the image.
        miou: Mean of TP / (TP + FP + FN) over the classes with a target pixel in the image, None if all pixels are
            void.
        pixel_accuracy: Fraction of the pixels with the right class, None if all pixels are void.
        regions: Number of regions.
        uncertainty: Mean over all pixels, void included, of 1 - the score of their region; needs no ground truth.
    """

    name: str
    miou: float | None
    pixel_accuracy: float | None
    regions: int
    uncertainty: float


class ImageScoreTable:
    """Accumulator of the scores of each image; `update` copies nothing from the device to the host."""

    def __init__(self) -> None:
        self._images: list[tuple[str, int]] = []  # name, number of regions
        self._scores: list[Tensor] = []  # miou, pixel accuracy, uncertainty

    def update(self, name: str, overlap: Tensor, regions: LabelledRegions) -> None:
        """Score one image.

        Args:
            name: The name of the image.
            overlap: `[N, L]` int64, the pixels of the image by region and target class.
            regions: The N regions of the image.
        """
        num_classes = overlap.shape[1]
        counts = overlap.new_zeros(num_classes + 1, num_classes).index_add_(0, regions.class_index, overlap)
        uncertainty = ratio(expected_errors(regions.score.double(), regions.areas).sum(), regions.areas.sum())
        accuracy = ratio(counts.diagonal().sum(), counts.sum())
        self._images.append((name, len(regions)))
        self._scores.append(torch.stack([class_iou(counts).nanmean(), accuracy, uncertainty]))

    def compute(self) -> list[ImageScores]:
        """Return the scores of the images in the order of the updates.

        Raises:
            RuntimeError: There was no image.
        """
        rows = []
        for (name, num_regions), scores in zip(self._images, torch.stack(self._scores).cpu(), strict=True):
            miou, accuracy = json_list(scores[:2])
            rows.append(ImageScores(name, miou, accuracy, num_regions, float(scores[2])))
        return rows


def class_iou(counts: Tensor) -> Tensor:
    """Return TP / (TP + FP + FN) of each class.

    Args:
        counts: `[L+1, L]` int64, pixels by predicted class (the last row is "something else") and target class.

    Returns:
        `[L]` float64, NaN for a class without a target pixel.
    """
    tp, target, predicted = counts.diagonal(), counts.sum(0), counts[:-1].sum(1)
    return ratio(tp, target + predicted - tp).where(target > 0, torch.nan)


def best_and_worst(images: Sequence[ImageScores], count: int) -> tuple[list[ImageScores], list[ImageScores]]:
    """Select the images with the highest and with the lowest mIoU.

    Ties are sorted by name. Images without a mIoU (only void pixels) are left out. If there are fewer than 2 `count`
    images, each list gets half of them and the list of the best images gets the odd one; no image is in both lists.

    Args:
        images: The scores of all images.
        count: Maximum length of each list.

    Returns:
        The best images, the highest mIoU first, and the worst images, the lowest mIoU first.
    """
    scored = [(image.miou, image.name, image) for image in images if image.miou is not None]
    num_best = min(count, (len(scored) + 1) // 2)
    best = [image for _, _, image in sorted(scored, key=lambda row: (-row[0], row[1]))[:num_best]]
    worst = [image for _, _, image in sorted(scored, key=lambda row: row[:2]) if image not in best]
    return best, worst[:count]
