"""Scores by segment: panoptic quality, precision, recall and F1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ovsr_gpu.evaluation.counts import check_labels, contingency_tables, json_list, nanmean, ratio


@dataclass(frozen=True)
class SegmentScores:
    """Scores by segment, one value per class; the macro means are over the classes with a value, as in panopticapi.

    None means that the class has neither target segments nor predicted segments.

    Attributes:
        true_positives: Matched segments (TP).
        false_positives: Predicted segments without a match (FP).
        false_negatives: Target segments without a match (FN).
        precision: TP / (TP + FP), 0 where that is 0/0.
        recall: TP / (TP + FN), 0 where that is 0/0.
        f1: TP / (TP + FP/2 + FN/2), called recognition quality, RQ, in panoptic segmentation.
        segmentation_quality: SQ, the mean IoU of the matches, 0 without a match.
        panoptic_quality: PQ = SQ x RQ (Kirillov et al. 2019).
        macro_precision, macro_recall, macro_f1, macro_segmentation_quality, macro_panoptic_quality: Means over classes.
    """

    true_positives: list[int]
    false_positives: list[int]
    false_negatives: list[int]
    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]
    segmentation_quality: list[float | None]
    panoptic_quality: list[float | None]
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_segmentation_quality: float
    macro_panoptic_quality: float


class PanopticQuality:
    """Accumulator of matches between predicted and target segments of the same class with IoU > 0.5.

    This threshold makes each match unique. IoU is intersection / (predicted area + target area - intersection), without
    the void pixels of the predicted segment. A predicted segment without a match is not a FP if more than half of it
    is void. Both rules are those of COCO panoptic (panopticapi). A segment predicted as "something else" is not a FP.

    The maps define what a segment is. If the target has no instances, COCO takes all pixels of a class in an image as
    one segment, connected or not, in the prediction and in the target: pass the class maps as segment maps, with
    `torch.arange(L + 1)` and `torch.arange(L)` as the classes. With the region map and the classes of the regions, each
    region is a segment.

    Args:
        num_classes: The number of classes L.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._counts = torch.zeros(3, num_classes, dtype=torch.int64)  # TP, FP, FN
        self._iou_sum = torch.zeros(num_classes, dtype=torch.float64)  # over TP

    def update(self, prediction: Tensor, predicted_class: Tensor, target: Tensor, target_class: Tensor) -> None:
        """Match the segments of one image.

        Args:
            prediction: `[H, W]` integers, the predicted segment of each pixel, -1 for none.
            predicted_class: `[S]` integers, the class of each predicted segment, L for "something else".
            target: `[H, W]` integers, the target segment of each pixel, -1 for void.
            target_class: `[T]` integers, the class of each target segment.

        Raises:
            ValueError: The shapes differ or a label is out of range.
        """
        check_labels("predicted class", predicted_class, 0, self._num_classes + 1)
        check_labels("target class", target_class, 0, self._num_classes)
        check_labels("predicted", prediction, -1, len(predicted_class))
        check_labels("target", target, -1, len(target_class))
        prediction, target = prediction.long(), target.long()
        predicted_class, target_class = predicted_class.long(), target_class.long()
        num_predicted, num_target = len(predicted_class), len(target_class)
        # The last row and column count the pixels without a segment.
        table = contingency_tables(
            prediction.where(prediction >= 0, num_predicted)[None],
            target.where(target >= 0, num_target)[None],
            num_predicted + 1,
            num_target + 1,
        )[0]
        intersection, void = table[:-1, :-1], table[:-1, -1]
        predicted_area, target_area = table[:-1].sum(1), table[:, :-1].sum(0)
        union = (predicted_area - void)[:, None] + target_area - intersection
        is_match = (2 * intersection > union) & (predicted_class[:, None] == target_class)
        is_tp = is_match.any(0)
        is_fp = (
            (predicted_area > 0)
            & (predicted_class < self._num_classes)
            & ~is_match.any(1)
            & (2 * void <= predicted_area)
        )
        is_fn = (target_area > 0) & ~is_tp
        counts = [
            torch.bincount(labels, minlength=self._num_classes)
            for labels in (target_class[is_tp], predicted_class[is_fp], target_class[is_fn])
        ]
        iou = ratio(intersection, union).where(is_match, 0).sum(0) @ one_hot(target_class, self._num_classes).double()
        self._counts = self._counts.to(iou.device) + torch.stack(counts)
        self._iou_sum = self._iou_sum.to(iou.device) + iou

    def compute(self) -> SegmentScores:
        """Return the scores.

        Raises:
            ValueError: There was no segment of a class.
        """
        tp, fp, fn = self._counts.cpu()
        is_present = tp + fp + fn > 0
        if not is_present.any():
            raise ValueError("no segment of a class was counted")
        precision, recall, quality = (
            ratio(numerator, denominator).nan_to_num(0).where(is_present, torch.nan)
            for numerator, denominator in ((tp, tp + fp), (tp, tp + fn), (self._iou_sum.cpu(), tp))
        )
        f1 = ratio(2 * tp, 2 * tp + fp + fn)
        return SegmentScores(
            true_positives=tp.tolist(),
            false_positives=fp.tolist(),
            false_negatives=fn.tolist(),
            precision=json_list(precision),
            recall=json_list(recall),
            f1=json_list(f1),
            segmentation_quality=json_list(quality),
            panoptic_quality=json_list(quality * f1),
            macro_precision=nanmean(precision),
            macro_recall=nanmean(recall),
            macro_f1=nanmean(f1),
            macro_segmentation_quality=nanmean(quality),
            macro_panoptic_quality=nanmean(quality * f1),
        )
