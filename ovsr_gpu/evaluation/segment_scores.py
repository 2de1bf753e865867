"""Whole segments with their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ovsr_gpu.evaluation.counts import check_labels, joint_counts, listed, mean, ratio


@dataclass(frozen=True)
class RegionScores:
    """Scores by segment: TP matched ones of a class, FP found ones and FN true ones without a match.

    precision: TP / (TP + FP), recall: TP / (TP + FN), each 0 where that is 0/0. f1: TP / (TP + FP/2 + FN/2), which
    panoptic segmentation calls recognition quality, RQ. segmentation_quality, SQ: the mean IoU of the matches, 0
    without one. panoptic_quality, PQ: SQ x RQ (Kirillov et al. 2019). One value a class, None for a class with neither
    true nor found segments; `macro_` is the mean over the others, as panopticapi takes it.
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


class RegionMatches:
    """Matches found segments with true ones of the same class where IoU > 0.5, which makes the match unique.

    IoU: shared pixels / (found + true - shared), void left out of the found ones. A found segment without a match is no
    FP if more than half of it is void. Both as in COCO panoptic (panopticapi). "Something else" claims nothing: it is
    no FP.

    What a segment is, the maps log. In truth without instances COCO takes all pixels of a class in an image for one
    segment, connected or not, on both sides: give the class maps as segment maps, with `torch.arange(L + 1)` and
    `torch.arange(L)` as the classes. With the region map and the regions' classes every region is a segment of its own.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._matches = torch.zeros(3, classes, dtype=torch.int64)  # TP, FP, FN
        self._iou = torch.zeros(classes, dtype=torch.float64)  # the sum over TP

    def update(self, found: Tensor, found_class: Tensor, truth: Tensor, true_class: Tensor) -> None:
        """Match the segments of one image.

        found, truth: `[H, W]` integers, the segment of each pixel, -1 for none and for void.
        found_class: `[S]` integers, the class of each found segment, L for "something else". true_class: `[T]`.
        Raises ValueError for other labels and shapes that differ.
        """
        check_labels("found class", found_class, 0, self._classes + 1)
        check_labels("true class", true_class, 0, self._classes)
        check_labels("found", found, -1, len(found_class))
        check_labels("true", truth, -1, len(true_class))
        found, truth = found.long(), truth.long()
        found_class, true_class = found_class.long(), true_class.long()
        segments, truths = len(found_class), len(true_class)
        everything = joint_counts(
            found.where(found >= 0, segments)[None], truth.where(truth >= 0, truths)[None], segments + 1, truths + 1
        )[0]
        shared, void = everything[:-1, :-1], everything[:-1, -1]
        areas, true_areas = everything[:-1].sum(1), everything[:, :-1].sum(0)
        union = (areas - void)[:, None] + true_areas - shared
        matched = (2 * shared > union) & (found_class[:, None] == true_class)
        wrong = (areas > 0) & (found_class < self._classes) & ~matched.any(1) & (2 * void <= areas)
        missed = (true_areas > 0) & ~matched.any(0)
        matches = [
            torch.bincount(labels, minlength=self._classes)
            for labels in (true_class[matched.any(0)], found_class[wrong], true_class[missed])
        ]
        iou = ratio(shared, union).where(matched, 0).sum(0) @ one_hot(true_class, self._classes).double()
        self._matches = self._matches.to(iou.device) + torch.stack(matches)
        self._iou = self._iou.to(iou.device) + iou

    def result(self) -> RegionScores:
        """The scores. Raises ValueError where there was no segment."""
        hits, wrong, missed = self._matches.cpu()
        occurs = hits + wrong + missed > 0
        if not occurs.any():
            raise ValueError("no segment of a class was counted")
        precision, recall, quality = (
            ratio(part, whole).nan_to_num(0).where(occurs, torch.nan)
            for part, whole in ((hits, hits + wrong), (hits, hits + missed), (self._iou.cpu(), hits))
        )
        f1 = ratio(2 * hits, 2 * hits + wrong + missed)
        return RegionScores(
            true_positives=hits.tolist(),
            false_positives=wrong.tolist(),
            false_negatives=missed.tolist(),
            precision=listed(precision),
            recall=listed(recall),
            f1=listed(f1),
            segmentation_quality=listed(quality),
            panoptic_quality=listed(quality * f1),
            macro_precision=mean(precision),
            macro_recall=mean(recall),
            macro_f1=mean(f1),
            macro_segmentation_quality=mean(quality),
            macro_panoptic_quality=mean(quality * f1),
        )
