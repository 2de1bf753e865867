"""Where the outlines of each class lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot, isqrt

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.evaluation.counts import check_labels, listed, mean, ratio


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary F-scores, 2 P R / (P + R) of each class in each image where it is true or predicted.

    P: the fraction of the predicted boundary pixels with a true one within the tolerance. R: the fraction of the true ones
    with a predicted one within it. Without either P = R = 1, without one of the two F = 0.

    f: the mean over the images of a class; None for a class in no image. macro_f: the mean over the other classes.
    image_f: the mean over the classes of an image; its mean over the images.
    """

    f: list[float | None]
    macro_f: float
    image_f: float


class BoundaryScore:
    """Boundary F-scores by class and image (Csurka et al. 2013), the boundaries as in DAVIS (Perazzi et al. 2016).

    A pixel belongs to the boundary of a class if it or its neighbor to the right, below, or right and below has the
    class but not both. The tolerance is a disc with a radius of `tolerance` times the image's diagonal, rounded up:
    0.0075 by Csurka et al.; the code of DAVIS takes 0.008. Void pixels count nowhere: neighbors one of which is
    void make no boundary, unlike in DAVIS, where void takes on the background's class on both sides.
    "Something else" has no score; it ends the other classes.
    """

    def __init__(self, classes: int, tolerance: float = 0.0075) -> None:
        self._tolerance = tolerance
        self._sums = torch.zeros(classes, dtype=torch.float64)
        self._images = torch.zeros(classes, dtype=torch.int64)
        self._image_f: list[Tensor] = []

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Score one image.

        found: `[H, W]` integers, the class of each pixel, L for "something else". truth: `[H, W]`, -1 for void.
        Raises ValueError for other labels and shapes that differ.
        """
        classes = len(self._sums)
        if found.ndim != 2 or found.shape != truth.shape:
            raise ValueError(f"two [H, W] maps are needed; got {list(found.shape)} and {list(truth.shape)}")
        check_labels("found", found, 0, classes + 1)
        check_labels("true", truth, -1, classes)
        known = truth >= 0
        labels = torch.cat([found[known].long(), truth[known].long()])
        present = torch.bincount(labels, minlength=classes)[:classes].nonzero().flatten()
        if not len(present):
            return
        edges, true_edges = (boundary(one == present[:, None, None], known) for one in (found, truth))
        radius = ceil(self._tolerance * hypot(*found.shape))
        precision = ratio(near(edges, true_edges, radius), edges.sum((1, 2)))
        recall = ratio(near(true_edges, edges, radius), true_edges.sum((1, 2)))
        neither = precision.isnan() & recall.isnan()
        f = ratio(2 * precision * recall, precision + recall).nan_to_num(0).where(~neither, 1)
        self._sums, self._images = self._sums.to(f.device), self._images.to(f.device)
        self._sums[present] += f
        self._images[present] += 1
        self._image_f.append(f.mean())

    def result(self) -> BoundaryScores:
        """The scores. Raises ValueError where no class was counted."""
        if not self._image_f:
            raise ValueError("no image with a class was counted")
        f = ratio(self._sums, self._images).cpu()
        return BoundaryScores(f=listed(f), macro_f=mean(f), image_f=mean(torch.stack(self._image_f)))


def boundary(inside: Tensor, known: Tensor) -> Tensor:
    """`[K, H, W]` bool: pixels of which one of the three neighbors towards the lower right is on the other side.

    inside: `[K, H, W]` bool. known: `[H, W]` bool, the pixels that are not void.
    """
    height, width = known.shape
    edges = torch.zeros_like(inside)
    for down, right in ((0, 1), (1, 0), (1, 1)):
        here = ..., slice(None, height - down), slice(None, width - right)
        there = ..., slice(down, None), slice(right, None)
        edges[here] |= (inside[here] != inside[there]) & known[here] & known[there]
    return edges


def near(edges: Tensor, others: Tensor, radius: int) -> Tensor:
    """Number of the pixels of each plane of `edges` with one of `others` within `radius` pixels: `[K]` int64.

    edges, others: `[K, H, W]` bool. A row of a disc is an interval: running sums say whether it holds any.
    """
    sums = pad(others.int(), (radius + 1, radius, radius, radius)).cumsum(-1, dtype=torch.int32)
    stride, rows = sums.shape[2], sums.shape[1]
    plane, y, x = edges.nonzero(as_tuple=True)
    center = (plane * rows + y + radius) * stride + x + radius + 1
    sums = sums.flatten()
    hit = torch.zeros_like(plane, dtype=torch.bool)
    for down in range(-radius, radius + 1):
        half = isqrt(radius**2 - down**2)
        row = center + down * stride
        hit |= sums[row + half] > sums[row - half - 1]
    return torch.bincount(plane[hit], minlength=len(edges))
