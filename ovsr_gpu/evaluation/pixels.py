"""The class of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovsr_gpu.evaluation.counts import joint_counts, listed, mean, ratio


@dataclass(frozen=True)
class PixelScores:
    """Scores by pixel over all images together, with TP, FP and FN of a class in pixels.

    iou: TP / (TP + FP + FN) (Everingham et al., PASCAL VOC, 2010). precision: TP / (TP + FP), 0 for a class that was
    never predicted. recall: TP / (TP + FN), also called class accuracy. f1: 2 TP / (2 TP + FP + FN). One value a
    class, None for a class without a true pixel, even one that was predicted.

    miou, macro_precision, mean_accuracy (of recall), macro_f1: their means over the classes with a true pixel.
    pixel_accuracy: TP of all classes / all pixels (both accuracies as in Long et al., FCN, 2015).

    "Something else" on a pixel of a class is a miss (FN) of that class and a false alarm (FP) of none. Void pixels
    count nowhere.

    mmsegmentation: aAcc, mIoU, mAcc, mFscore, mPrecision and mRecall as its IoUMetric defines them, not in percent and
    not rounded. There each mean leaves out the classes for which its own quotient is 0/0: mIoU takes in a class without
    a true pixel that was predicted somewhere (as 0), mPrecision leaves out one that was never predicted, mFscore one
    without TP. None where no class is left.
    """

    iou: list[float | None]
    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]
    miou: float
    macro_precision: float
    mean_accuracy: float
    macro_f1: float
    pixel_accuracy: float
    mmsegmentation: dict[str, float | None]


class PixelConfusion:
    """Pixels of each true class that were given each class.

    counts: `[L, L+1]` int64, true class by predicted class, the last column "something else".
    """

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, classes + 1, dtype=torch.int64)

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Count one or more images.

        found: integers of any shape, the class of each pixel, L for "something else". truth: the same shape, -1 void.
        Raises ValueError for other labels and for shapes that differ.
        """
        classes = len(self.counts)
        counts = joint_counts(found[None], truth[None], classes + 1, classes)[0].T
        self.counts = self.counts.to(counts.device) + counts

    def result(self) -> PixelScores:
        """The scores. Raises ValueError where no pixel was counted."""
        counts = self.counts.cpu()
        if not counts.any():
            raise ValueError("no pixel with a true class was counted")
        hits, true, found = counts.diagonal(), counts.sum(1), counts[:, : len(counts)].sum(0)
        accuracy = ratio(hits.sum(), counts.sum())
        recall = ratio(hits, true)
        iou, precision, f1 = (
            ratio(part, whole).nan_to_num(0).where(true > 0, torch.nan)
            for part, whole in ((hits, true + found - hits), (hits, found), (2 * hits, true + found))
        )
        return PixelScores(
            iou=listed(iou),
            precision=listed(precision),
            recall=listed(recall),
            f1=listed(f1),
            miou=mean(iou),
            macro_precision=mean(precision),
            mean_accuracy=mean(recall),
            macro_f1=mean(f1),
            pixel_accuracy=float(accuracy),
            mmsegmentation=_mmsegmentation(hits, true, found, accuracy),
        )


def _mmsegmentation(hits: Tensor, true: Tensor, found: Tensor, accuracy: Tensor) -> dict[str, float | None]:
    precision, recall = ratio(hits, found), ratio(hits, true)
    figures = {
        "aAcc": accuracy,
        "mIoU": ratio(hits, true + found - hits),
        "mAcc": recall,
        "mFscore": ratio(2 * precision * recall, precision + recall),
        "mPrecision": precision,
        "mRecall": recall,
    }
    return dict(zip(figures, listed(torch.stack([values.nanmean() for values in figures.values()])), strict=True))
