"""The scores of each image by itself, and which images are the best and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovsr_gpu.evaluation.counts import listed, ratio
from ovsr_gpu.results import LabelledRegions


@dataclass(frozen=True)
class ImageScores:
    """What one image came to.

    miou: the mean of TP / (TP + FP + FN) over the classes with a true pixel in it; what was taken for another class is
    missed by its own. pixel_accuracy: the fraction of its pixels with the right class. Void pixels count in neither, and
    both are None for an image of void alone. regions: how many. uncertainty: the mean over all its pixels, void too,
    of 1 - the score of their region: it takes no truth.
    """

    name: str
    miou: float | None
    pixel_accuracy: float | None
    regions: int
    uncertainty: float


class ImageTable:
    """The scores of one image after another; nothing is read back from the device before `result`."""

    def __init__(self) -> None:
        self._known: list[tuple[str, int]] = []
        self._figures: list[Tensor] = []

    def update(self, name: str, shared: Tensor, regions: LabelledRegions) -> None:
        """Score one image. shared: `[N, L]` int64, the pixels of its regions by true class."""
        classes = shared.shape[1]
        counts = shared.new_zeros(classes + 1, classes).index_add_(0, regions.class_index, shared)
        doubt = ratio(((1 - regions.score.double()) * regions.areas).sum(), regions.areas.sum())
        accuracy = ratio(counts.diagonal().sum(), counts.sum())
        self._known.append((name, len(regions)))
        self._figures.append(torch.stack([class_iou(counts).nanmean(), accuracy, doubt]))

    def result(self) -> list[ImageScores]:
        """The images in their order. Raises RuntimeError where there was none."""
        scores = []
        for (name, regions), figures in zip(self._known, torch.stack(self._figures).cpu(), strict=True):
            miou, accuracy = listed(figures[:2])
            scores.append(ImageScores(name, miou, accuracy, regions, float(figures[2])))
        return scores


def class_iou(counts: Tensor) -> Tensor:
    """TP / (TP + FP + FN) of each class: `[L]` float64, NaN without a true pixel.

    counts: `[L+1, L]` int64, pixels by found class, the last one "something else", and true class.
    """
    hits, true, found = counts.diagonal(), counts.sum(0), counts[:-1].sum(1)
    return ratio(hits, true + found - hits).where(true > 0, torch.nan)


def best_and_worst(images: Sequence[ImageScores], count: int) -> tuple[list[ImageScores], list[ImageScores]]:
    """The `count` images with the highest mIoU and the `count` others with the lowest, each from the extreme on.

    Equals stand by name. Of fewer than 2 `count` images each list gets half, the best one more if they are odd.
    Images of void alone are in neither.
    """
    scored = [(image.miou, image.name, image) for image in images if image.miou is not None]
    best = [one[2] for one in sorted(scored, key=lambda one: (-one[0], one[1]))[: min(count, (len(scored) + 1) // 2)]]
    worst = [one[2] for one in sorted(scored, key=lambda one: one[:2]) if one[2] not in best]
    return best, worst[:count]
