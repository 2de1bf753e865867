"""Scores by pixel, from a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovsr_gpu.evaluation.counts import contingency_tables, json_list, nanmean, ratio


@dataclass(frozen=True)
class PixelScores:
    """Scores by pixel over all images together; TP, FP and FN of a class are counted in pixels.

    A pixel of a class that is predicted as "something else" is a FN of that class and a FP of none. Void pixels are not
    counted. The lists have one value per class, None for a class without a target pixel, even if it was predicted.

    Attributes:
        iou: TP / (TP + FP + FN) (Everingham et al., PASCAL VOC, 2010).
        precision: TP / (TP + FP), 0 for a class that was never predicted.
        recall: TP / (TP + FN), also called class accuracy.
        f1: 2 TP / (2 TP + FP + FN).
        miou: Mean of `iou` over the classes with a target pixel; the other means are over the same classes.
        macro_precision: Mean of `precision`.
        mean_accuracy: Mean of `recall` (Long et al., FCN, 2015).
        macro_f1: Mean of `f1`.
        pixel_accuracy: TP of all classes / all pixels (Long et al., FCN, 2015).
        mmsegmentation: The scores aAcc, mIoU, mAcc, mFscore, mPrecision and mRecall as mmsegmentation's IoUMetric
            defines them, but as fractions and not rounded. There each mean leaves out the classes for which its own
            quotient is 0/0: mIoU includes a class without a target pixel that was predicted somewhere (as 0),
            mPrecision leaves out a class that was never predicted, mFscore a class without TP. None where no class
            remains.
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


class ConfusionMatrix:
    """Accumulator of pixels by target and predicted class.

    Args:
        num_classes: The number of classes L.

    Attributes:
        matrix: `[L, L+1]` int64, target class by predicted class; the last column is "something else".

    Example:
        >>> confusion = ConfusionMatrix(2)
        >>> confusion.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
        >>> confusion.compute().iou
        [0.5, 0.5]
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count the pixels of one or more images.

        Args:
            prediction: Integers of any shape, the class of each pixel, L for "something else".
            target: Integers of the same shape, the class of each pixel, -1 for void.

        Raises:
            ValueError: The shapes differ or a label is out of range.
        """
        num_classes = len(self.matrix)
        matrix = contingency_tables(prediction[None], target[None], num_classes + 1, num_classes)[0].T
        self.matrix = self.matrix.to(matrix.device) + matrix

    def compute(self) -> PixelScores:
        """Return the scores.

        Raises:
            ValueError: No pixel was counted.
        """
        matrix = self.matrix.cpu()
        if not matrix.any():
            raise ValueError("no pixel with a target class was counted")
        tp, target, predicted = matrix.diagonal(), matrix.sum(1), matrix[:, : len(matrix)].sum(0)
        accuracy = ratio(tp.sum(), matrix.sum())
        recall = ratio(tp, target)
        iou, precision, f1 = (
            ratio(numerator, denominator).nan_to_num(0).where(target > 0, torch.nan)
            for numerator, denominator in (
                (tp, target + predicted - tp),
                (tp, predicted),
                (2 * tp, target + predicted),
            )
        )
        return PixelScores(
            iou=json_list(iou),
            precision=json_list(precision),
            recall=json_list(recall),
            f1=json_list(f1),
            miou=nanmean(iou),
            macro_precision=nanmean(precision),
            mean_accuracy=nanmean(recall),
            macro_f1=nanmean(f1),
            pixel_accuracy=float(accuracy),
            mmsegmentation=_mmsegmentation_scores(tp, target, predicted, accuracy),
        )


def _mmsegmentation_scores(tp: Tensor, target: Tensor, predicted: Tensor, accuracy: Tensor) -> dict[str, float | None]:
    """Return the scores of mmsegmentation's IoUMetric from pixel counts by class `[L]`."""
    precision, recall = ratio(tp, predicted), ratio(tp, target)
    scores = {
        "aAcc": accuracy,
        "mIoU": ratio(tp, target + predicted - tp),
        "mAcc": recall,
        "mFscore": ratio(2 * precision * recall, precision + recall),
        "mPrecision": precision,
        "mRecall": recall,
    }
    return dict(zip(scores, json_list(torch.stack([values.nanmean() for values in scores.values()])), strict=True))
