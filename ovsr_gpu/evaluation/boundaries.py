"""Boundary F-scores: how well the boundaries of each class match."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot, isqrt

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.evaluation.counts import check_labels, json_list, nanmean, ratio


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary F-scores, 2 P R / (P + R), of each class in each image where it is in the target or predicted.

    P is the fraction of the predicted boundary pixels with a target boundary pixel within the tolerance, R the fraction
    of the target boundary pixels with a predicted one within the tolerance. If there are neither, P = R = 1; if there
    is only one of the two, F = 0.

    Attributes:
        f: Mean over the images with the class, one value per class, None for a class in no image.
        macro_f: Mean of `f` over the classes in at least one image.
        image_f: Mean over the classes of an image, then over the images.
    """

    f: list[float | None]
    macro_f: float
    image_f: float


class BoundaryFScore:
    """Accumulator of boundary F-scores by class and image (Csurka et al. 2013), with the boundaries of DAVIS.

    A pixel belongs to the boundary of a class if exactly one of the pixel and its neighbor has the class, for the
    neighbor to the right, below, or right and below (Perazzi et al., DAVIS, 2016). The tolerance is a disc with a
    radius of `tolerance` times the image diagonal, rounded up. Void pixels are not counted: a pair of neighbors with a
    void pixel makes no boundary, unlike in DAVIS, where void is set to background in both maps. "Something else" has no
    score of its own, but it bounds the other classes.

    Args:
        num_classes: The number of classes L.
        tolerance: Fraction of the image diagonal; 0.0075 in Csurka et al., 0.008 in the code of DAVIS.
    """

    def __init__(self, num_classes: int, tolerance: float = 0.0075) -> None:
        self._tolerance = tolerance
        self._f_sum = torch.zeros(num_classes, dtype=torch.float64)
        self._num_images = torch.zeros(num_classes, dtype=torch.int64)
        self._image_f: list[Tensor] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score one image.

        Args:
            prediction: `[H, W]` integers, the class of each pixel, L for "something else".
            target: `[H, W]` integers, the class of each pixel, -1 for void.

        Raises:
            ValueError: The shapes differ or a label is out of range.
        """
        num_classes = len(self._f_sum)
        if prediction.ndim != 2 or prediction.shape != target.shape:
            raise ValueError(f"two [H, W] maps are needed; got {list(prediction.shape)} and {list(target.shape)}")
        check_labels("predicted", prediction, 0, num_classes + 1)
        check_labels("target", target, -1, num_classes)
        valid = target >= 0
        labels = torch.cat([prediction[valid].long(), target[valid].long()])
        present = torch.bincount(labels, minlength=num_classes)[:num_classes].nonzero().flatten()
        if not len(present):
            return
        predicted_edges, target_edges = (
            boundary_pixels(class_map == present[:, None, None], valid) for class_map in (prediction, target)
        )
        radius = ceil(self._tolerance * hypot(*prediction.shape))
        precision = ratio(count_within(predicted_edges, target_edges, radius), predicted_edges.sum((1, 2)))
        recall = ratio(count_within(target_edges, predicted_edges, radius), target_edges.sum((1, 2)))
        has_no_boundary = precision.isnan() & recall.isnan()
        f = ratio(2 * precision * recall, precision + recall).nan_to_num(0).where(~has_no_boundary, 1)
        self._f_sum, self._num_images = self._f_sum.to(f.device), self._num_images.to(f.device)
        self._f_sum[present] += f
        self._num_images[present] += 1
        self._image_f.append(f.mean())

    def compute(self) -> BoundaryScores:
        """Return the scores.

        Raises:
            ValueError: No image with a class was counted.
        """
        if not self._image_f:
            raise ValueError("no image with a class was counted")
        f = ratio(self._f_sum, self._num_images).cpu()
        return BoundaryScores(f=json_list(f), macro_f=nanmean(f), image_f=nanmean(torch.stack(self._image_f)))


def boundary_pixels(masks: Tensor, valid: Tensor) -> Tensor:
    """Mark the pixels that differ from their neighbor to the right, below, or right and below.

    Args:
        masks: `[K, H, W]` bool.
        valid: `[H, W]` bool, the pixels that are not void.

    Returns:
        `[K, H, W]` bool.
    """
    height, width = valid.shape
    edges = torch.zeros_like(masks)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        pixel = ..., slice(None, height - dy), slice(None, width - dx)
        neighbor = ..., slice(dy, None), slice(dx, None)
        edges[pixel] |= (masks[pixel] != masks[neighbor]) & valid[pixel] & valid[neighbor]
    return edges


def count_within(edges: Tensor, references: Tensor, radius: int) -> Tensor:
    """Count the pixels of each plane of `edges` that have a pixel of `references` within `radius` pixels.

    A row of the disc is an interval of columns, so the difference of two running sums tells whether it has a pixel.

    Args:
        edges, references: `[K, H, W]` bool.
        radius: Radius of the disc in pixels.

    Returns:
        `[K]` int64.
    """
    sums = pad(references.int(), (radius + 1, radius, radius, radius)).cumsum(-1, dtype=torch.int32)
    stride, rows = sums.shape[2], sums.shape[1]
    plane, y, x = edges.nonzero(as_tuple=True)
    center = (plane * rows + y + radius) * stride + x + radius + 1
    sums = sums.flatten()
    is_near = torch.zeros_like(plane, dtype=torch.bool)
    for dy in range(-radius, radius + 1):
        half_width = isqrt(radius**2 - dy**2)
        row = center + dy * stride
        is_near |= sums[row + half_width] > sums[row - half_width - 1]
    return torch.bincount(plane[is_near], minlength=len(edges))
