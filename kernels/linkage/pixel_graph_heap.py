"""Agglomerative clustering on a graph of neighbours with a heap, as scikit-learn does it: one merge after another.

The heap holds the edges by (weight, larger id, smaller id); one whose ends are merged by now is passed over. This is
the path for a CPU, where a merge costs less than the many small operations of a round. The arithmetic is that of the
data's dtype, in the order in which the rounds do it, so Ward's and average linkage's trees are theirs bit by bit.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovsr_gpu.kernels.trees import MergeTree, unmade

Touching = dict[int, float]
"""The clusters that a cluster touches, each with the weight of the edge between them."""


def ward_tree(points: Tensor, ends: Tensor, mask: Tensor, wanted: Tensor) -> MergeTree:
    """points: `[B, P, R]`. ends: `[E, 2]` int64. mask: `[B, P]` bool. wanted: `[B]` int64, merges."""
    tree = unmade(len(points), points.shape[1] - 1, points)
    for image, merges in enumerate(wanted.tolist()):
        edges = ends[_usable(ends, mask[image])].numpy()
        clusters = _WardClusters(points[image].numpy())
        _grow(tree, image, clusters, edges, clusters.costs(edges[:, 0], edges[:, 1]), merges)
    return tree._replace(heights=(2 * tree.heights).sqrt())


def edge_tree(weights: Tensor, ends: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """weights: `[B, E]`, of an edge given twice the smaller one counts. The rest as in `ward_tree`."""
    points = mask.shape[1]
    tree = unmade(len(weights), points - 1, weights)
    for image, merges in enumerate(wanted.tolist()):
        usable = _usable(ends, mask[image])
        own = weights[image][usable].numpy()
        _grow(tree, image, _EdgeClusters(points, method, own.dtype), ends[usable].numpy(), own, merges)
    return tree


def _usable(ends: Tensor, mask: Tensor) -> Tensor:
    """Which edges join two points that take part, `[E]` bool."""
    return mask[ends].all(1) & (ends[:, 0] != ends[:, 1])


def _grow(
    tree: MergeTree,
    image: int,
    clusters: _WardClusters | _EdgeClusters,
    edges: NDArray[np.int64],
    weights: NDArray[Any],
    merges: int,
) -> None:
    """Write the first `merges` merges of an image; edges: `[E, 2]`, weights: `[E]`."""
    finite = np.isfinite(weights)
    edges, weights = edges[finite], weights[finite]
    heap = sorted(zip(weights.tolist(), edges.max(1).tolist(), edges.min(1).tolist(), strict=True))
    union = tree.heights.shape[1] + 1
    touching: dict[int, Touching] = {cluster: {} for cluster in range(union)}
    for weight, b, a in reversed(heap):  # of an edge given twice the smaller weight comes last
        touching[a][b] = touching[b][a] = weight

    children: list[tuple[int, int]] = []
    heights: list[float] = []
    while heap and len(children) < merges:
        height, b, a = heappop(heap)
        if a not in touching or b not in touching:
            continue
        children.append((a, b))
        heights.append(height)
        of_a, of_b = touching.pop(a), touching.pop(b)
        del of_a[b], of_b[a]
        of_union = clusters.join(a, b, of_a, of_b)
        for other, weight in of_union.items():
            of_other = touching[other]
            of_other.pop(a, None)
            of_other.pop(b, None)
            of_other[union] = weight
            heappush(heap, (weight, union, other))
        touching[union] = of_union
        union += 1

    made = len(children)
    if made:
        tree.children[image, :made] = torch.tensor(children)
        tree.heights[image, :made] = torch.tensor(heights, dtype=tree.heights.dtype)
        tree.sizes[image, :made] = torch.tensor(clusters.sizes[-made:], dtype=torch.int64)


class _WardClusters:
    """Clusters whose edges weigh what joining them adds to the within-cluster sum of squares."""

    def __init__(self, points: NDArray[Any]) -> None:
        count, rank = points.shape
        self.total = np.concatenate([points, np.zeros((count - 1, rank), points.dtype)])
        self.mean = self.total.copy()
        self.size = np.ones(2 * count - 1, points.dtype)
        self.sizes = [1] * count

    def costs(self, a: Any, b: Any) -> NDArray[Any]:
        """Ward's cost between clusters, the squares added one after another; a, b: ids, one of them `[n]`."""
        squares = np.square(self.mean[a] - self.mean[b])
        size_a, size_b = self.size[a], self.size[b]
        return np.add.accumulate(squares, axis=1)[:, -1] * (size_a * size_b / (size_a + size_b))

    def join(self, a: int, b: int, of_a: Touching, of_b: Touching) -> Touching:
        """Make the next cluster out of a and b; returns what it touches."""
        union = len(self.sizes)
        self.sizes.append(self.sizes[a] + self.sizes[b])
        self.size[union] = self.sizes[union]
        self.total[union] = self.total[a] + self.total[b]
        self.mean[union] = self.total[union] / self.size[union]
        others = list(of_a | of_b)
        if not others:
            return {}
        return dict(zip(others, self.costs(others, union).tolist(), strict=True))


class _EdgeClusters:
    """Clusters whose edges weigh what `method` makes of the weights of the edges between their points.

    A cluster that touches only one half of a pair keeps that edge's weight, as in scikit-learn.
    """

    def __init__(self, points: int, method: str, kind: np.dtype[Any]) -> None:
        self.sizes = [1] * points
        self.method = method
        self.kind = kind.type

    def join(self, a: int, b: int, of_a: Touching, of_b: Touching) -> Touching:
        """Make the next cluster out of a and b; returns what it touches."""
        size_a, size_b = self.sizes[a], self.sizes[b]
        self.sizes.append(size_a + size_b)
        of_union = of_a | of_b
        for other in of_a.keys() & of_b:
            weight_a, weight_b = of_a[other], of_b[other]
            if self.method == "average":
                total = self.kind(size_a * weight_a) + self.kind(size_b * weight_b)
                of_union[other] = float(total / self.kind(size_a + size_b))
            else:
                of_union[other] = max(weight_a, weight_b) if self.method == "complete" else min(weight_a, weight_b)
        return of_union
