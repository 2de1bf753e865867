"""Class-agnostic scores: one-to-one assignment of segments to classes by the Hungarian method (Kuhn 1955)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovsr_gpu.evaluation.counts import contingency_tables, json_list, nanmean, ratio


@dataclass(frozen=True)
class ImageHungarianScores:
    """Scores with a separate assignment of regions to classes in each image.

    Attributes:
        image_miou: Mean IoU over the classes of an image, 0 for a class without a region; then the mean over the
            images.
        iou: TP / (TP + FP + FN) of each class, its pixels summed over the images; None for a class without a target
            pixel.
        miou: Mean of `iou` over the classes with a target pixel.
    """

    image_miou: float
    iou: list[float | None]
    miou: float


class ImageHungarian:
    """Accumulator of the per-image protocol: regions are assigned to the classes of their image to maximize summed IoU.

    In an image with more regions than classes, some regions are assigned to no class: their pixels are FN of their
    target classes and FP of none. Void pixels are not counted, not in the area of a region either; an image with only
    void pixels is left out of all means.

    Args:
        num_classes: The number of classes L.
    """

    def __init__(self, num_classes: int) -> None:
        self._tp, self._predicted, self._target = torch.zeros(3, num_classes, dtype=torch.int64)
        self._image_mious: list[float] = []

    def update(self, regions: Tensor, target: Tensor) -> None:
        """Assign the regions of one image or of a batch; copies one table from the device to the host.

        Args:
            regions: `[H, W]` or `[B, H, W]` integers, the region of each pixel, numbered from 0 in each image.
            target: Integers of the same shape, the class of each pixel, -1 for void.

        Raises:
            ValueError: The shapes differ or a label is out of range.
        """
        if regions.ndim == 2:
            regions, target = regions[None], target[None]
        tables = contingency_tables(regions, target, int(regions.max()) + 1, len(self._target)).cpu()
        for table in tables:
            self._assign(table)

    def _assign(self, overlap: Tensor) -> None:
        """Add one image from `overlap`, `[N, L]` int64, its pixels by region and class."""
        areas, target = overlap.sum(1), overlap.sum(0)
        present = target.nonzero().flatten()
        if not len(present):
            return
        iou = ratio(overlap[:, present], areas[:, None] + (target - overlap)[:, present])
        region, column = map(torch.from_numpy, linear_sum_assignment(iou.numpy(), maximize=True))
        label = present[column]
        self._tp[label] += overlap[region, label]
        self._predicted[label] += areas[region]
        self._target += target
        self._image_mious.append(float(iou[region, column].sum() / len(present)))

    def compute(self) -> ImageHungarianScores:
        """Return the scores.

        Raises:
            ValueError: No image with a target class was counted.
        """
        if not self._image_mious:
            raise ValueError("no image with a target class was counted")
        iou = ratio(self._tp, self._target + self._predicted - self._tp)
        return ImageHungarianScores(
            image_miou=sum(self._image_mious) / len(self._image_mious), iou=json_list(iou), miou=nanmean(iou)
        )


@dataclass(frozen=True)
class DatasetHungarianScores:
    """Scores with one assignment of clusters to classes for all images.

    Attributes:
        iou: TP / (TP + FP + FN) of each class with its cluster, 0 for a class without a cluster, None for a class
            without a target pixel.
        miou: Mean of `iou` over the classes with a target pixel.
        pixel_accuracy: TP of all classes / all pixels.
        cluster: Index of the cluster assigned to each class, None if there is none.
    """

    iou: list[float | None]
    miou: float
    pixel_accuracy: float
    cluster: list[int | None]


class DatasetHungarian:
    """Accumulator of the dataset protocol: one contingency table over all images and one assignment.

    The assignment maximizes the number of pixels with the right class among the classes with a target pixel (PiCIE, Cho
    et al. 2021; STEGO, Hamilton et al. 2022). Pixels of a cluster without a class are FN of their target classes and FP
    of none. For a method that classifies its regions, the predicted class index is the cluster and "something else" is
    one more cluster. Void pixels are not counted.

    Args:
        num_clusters: The number of clusters K.
        num_classes: The number of classes L.

    Attributes:
        counts: `[K, L]` int64, pixels by cluster and target class.
    """

    def __init__(self, num_clusters: int, num_classes: int) -> None:
        self.counts = torch.zeros(num_clusters, num_classes, dtype=torch.int64)

    def update(self, clusters: Tensor, target: Tensor) -> None:
        """Count the pixels of one or more images.

        Args:
            clusters: Integers of any shape in 0..K - 1, the cluster of each pixel.
            target: Integers of the same shape, the class of each pixel, -1 for void.

        Raises:
            ValueError: The shapes differ or a label is out of range.
        """
        counts = contingency_tables(clusters[None], target[None], *self.counts.shape)[0]
        self.counts = self.counts.to(counts.device) + counts

    def compute(self) -> DatasetHungarianScores:
        """Return the scores.

        Raises:
            ValueError: No pixel was counted.
        """
        counts = self.counts.cpu()
        if not counts.any():
            raise ValueError("no pixel with a target class was counted")
        target = counts.sum(0)
        present = target.nonzero().flatten()
        cluster, column = map(torch.from_numpy, linear_sum_assignment(counts[:, present].numpy(), maximize=True))
        label = present[column]
        tp, predicted, assigned = torch.zeros_like(target), torch.zeros_like(target), torch.full_like(target, -1)
        tp[label], predicted[label], assigned[label] = counts[cluster, label], counts[cluster].sum(1), cluster
        iou = ratio(tp, target + predicted - tp)
        return DatasetHungarianScores(
            iou=json_list(iou),
            miou=nanmean(iou),
            pixel_accuracy=float(tp.sum() / target.sum()),
            cluster=[None if index < 0 else index for index in assigned.tolist()],
        )
