"""Segmentation without names: segments are assigned to classes one to one, by Kuhn's Hungarian method (1955)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovsr_gpu.evaluation.counts import joint_counts, listed, mean, ratio


@dataclass(frozen=True)
class ImageHungarianScores:
    """Regions assigned anew in every image.

    image_miou: the mean IoU over the classes of an image, 0 for one that got no region; the mean of this over the
    images.
    iou: of each class TP / (TP + FP + FN), its pixels summed over the images; None for a class without a true pixel.
    miou: the mean of `iou` over the classes with a true pixel.
    """

    image_miou: float
    iou: list[float | None]
    miou: float


class ImageHungarian:
    """Per-image protocol: the regions of an image are assigned to the classes in it, the sum of IoU the largest.

    A region beyond the number of classes is assigned to none: its pixels are FN of their true classes and FP of none.
    Void pixels count nowhere, also not in the area of a region; an image of void alone is left out of all means.
    """

    def __init__(self, classes: int) -> None:
        self._hits, self._found, self._true = torch.zeros(3, classes, dtype=torch.int64)
        self._image_mious: list[float] = []

    def update(self, regions: Tensor, truth: Tensor) -> None:
        """Assign the regions of one image or of a batch; what is read back from the device is one table.

        regions: `[H, W]` or `[B, H, W]` integers, each pixel's region, numbered from 0 on in each image.
        truth: the same shape, the classes, -1 for void. Raises ValueError for other labels and shapes that differ.
        """
        if regions.ndim == 2:
            regions, truth = regions[None], truth[None]
        tables = joint_counts(regions, truth, int(regions.max()) + 1, len(self._true)).cpu()
        for table in tables:
            self._assign(table)

    def _assign(self, shared: Tensor) -> None:
        """shared: `[N, L]` int64, pixels of one image by region and class."""
        areas, true = shared.sum(1), shared.sum(0)
        present = true.nonzero().flatten()
        if not len(present):
            return
        iou = ratio(shared[:, present], areas[:, None] + (true - shared)[:, present])
        region, place = map(torch.from_numpy, linear_sum_assignment(iou.numpy(), maximize=True))
        label = present[place]
        self._hits[label] += shared[region, label]
        self._found[label] += areas[region]
        self._true += true
        self._image_mious.append(float(iou[region, place].sum() / len(present)))

    def result(self) -> ImageHungarianScores:
        """The scores. Raises ValueError where no pixel was counted."""
        if not self._image_mious:
            raise ValueError("no image with a true class was counted")
        iou = ratio(self._hits, self._true + self._found - self._hits)
        return ImageHungarianScores(
            image_miou=sum(self._image_mious) / len(self._image_mious), iou=listed(iou), miou=mean(iou)
        )


@dataclass(frozen=True)
class DatasetHungarianScores:
    """Clusters assigned once for all images.

    iou: of each class TP / (TP + FP + FN) with the cluster assigned to it, 0 without one, None for a class without a
    true pixel. miou: its mean over the classes with a true pixel. pixel_accuracy: TP of all classes / all pixels.
    cluster: the one assigned to each class, None without one.
    """

    iou: list[float | None]
    miou: float
    pixel_accuracy: float
    cluster: list[int | None]


class DatasetHungarian:
    """Data-set protocol: one table of clusters and classes over all images, one assignment.

    The assignment gives the most pixels their class (PiCIE, Cho et al. 2021; STEGO, Hamilton et al. 2022), among the
    classes with a true pixel. Pixels of a cluster assigned to none are FN of their true classes and FP of none. For
    a method that names its regions the predicted class index is the cluster, "something else" being one more.
    Void pixels count nowhere.

    counts: `[K, L]` int64, pixels by cluster and true class.
    """

    def __init__(self, clusters: int, classes: int) -> None:
        self.counts = torch.zeros(clusters, classes, dtype=torch.int64)

    def update(self, clusters: Tensor, truth: Tensor) -> None:
        """Count one or more images.

        clusters: integers of any shape, 0 to K - 1. truth: the same shape, the classes, -1 for void.
        Raises ValueError for other labels and shapes that differ.
        """
        counts = joint_counts(clusters[None], truth[None], *self.counts.shape)[0]
        self.counts = self.counts.to(counts.device) + counts

    def result(self) -> DatasetHungarianScores:
        """The scores. Raises ValueError where no pixel was counted."""
        counts = self.counts.cpu()
        if not counts.any():
            raise ValueError("no pixel with a true class was counted")
        true = counts.sum(0)
        present = true.nonzero().flatten()
        cluster, place = map(torch.from_numpy, linear_sum_assignment(counts[:, present].numpy(), maximize=True))
        label = present[place]
        hits, found, assigned = torch.zeros_like(true), torch.zeros_like(true), torch.full_like(true, -1)
        hits[label], found[label], assigned[label] = counts[cluster, label], counts[cluster].sum(1), cluster
        iou = ratio(hits, true + found - hits)
        return DatasetHungarianScores(
            iou=listed(iou),
            miou=mean(iou),
            pixel_accuracy=float(hits.sum() / true.sum()),
            cluster=[None if number < 0 else number for number in assigned.tolist()],
        )
