"""Agglomerative clustering on the full graph, all images at once: SciPy's trees.

Ward, complete, average, weighted and single linkage are reducible: joining two clusters that are each other's nearest
neighbour brings neither nearer to any third one. So all such pairs of a round merge together, and the tree sorted by
height is the one that merging the single closest pair of all would build (Murtagh, 1983, "A survey of recent advances
in hierarchical clustering algorithms"). New distances come from the recurrence of Lance and Williams (1967).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.backend import choose_backend
from ovsr_gpu.kernels.linkage import full_graph_torch
from ovsr_gpu.kernels.linkage.arguments import check_floating, check_method, mask_and_stop
from ovsr_gpu.kernels.trees import MergeTree

FULL_GRAPH_METHODS = ("ward", "complete", "average", "weighted", "single")
CHUNK_BYTES = 1 << 24
"""Distances of about so many bytes at a time go through the torch rounds on a CPU, whose caches they then fit."""


def full_graph_linkage(
    points: Tensor,
    method: str = "ward",
    *,
    mask: Tensor | None = None,
    stop_at: int | Tensor = 1,
    backend: str = "auto",
) -> MergeTree:
    """Merge tree of each image over the Euclidean distances of all its points.

    points: `[B, P, R]` float32 or float64, P >= 1, finite. method: one of FULL_GRAPH_METHODS.
    mask: `[B, P]` bool, the points that take part; default all. stop_at: number of clusters, an int or `[B]` int64,
        below which nothing is merged. backend: "torch", "triton", or "auto" for the one that suits the device.
    Returns the tree that `scipy.cluster.hierarchy.linkage` defines, heights ascending, of the points' dtype. Of equally
    near clusters those are joined whose oldest points' places i, j have the least i xor j.
    Points that are not finite are never merged.

    Raises ValueError for another method, shape or dtype, RuntimeError for a backend that cannot run here.
    """
    check_method(method, FULL_GRAPH_METHODS)
    check_floating("points", points, "[B, P, R] with P >= 1", points.ndim == 3 and points.shape[1] >= 1)
    mask, stop_at = mask_and_stop(points, points.shape[1], mask, stop_at)
    if choose_backend(backend, points) == "triton":
        raise NotImplementedError
    parts = [
        full_graph_torch.rounds(full_graph_torch.distances(chunk, method), method, chunk_mask, chunk_stop)
        for chunk, chunk_mask, chunk_stop in _chunks(points, mask, stop_at)
    ]
    return MergeTree(*(torch.cat(part) for part in zip(*parts, strict=True)))


def distance_linkage(
    distances: Tensor,
    method: str,
    *,
    mask: Tensor | None = None,
    stop_at: int | Tensor = 1,
    backend: str = "auto",
) -> MergeTree:
    """Merge tree of each image from the distances between its points.

    distances: `[B, P, P]` float32 or float64, symmetric, P >= 1, finite; the diagonal is not read. "ward" takes them as
    Euclidean. The rest is as in `full_graph_linkage`.
    """
    check_method(method, FULL_GRAPH_METHODS)
    square = distances.ndim == 3 and distances.shape[1] == distances.shape[2] >= 1
    check_floating("distances", distances, "[B, P, P] with P >= 1", square)
    mask, stop_at = mask_and_stop(distances, distances.shape[1], mask, stop_at)
    if choose_backend(backend, distances) == "triton":
        raise NotImplementedError
    parts = [
        full_graph_torch.rounds(chunk.square() if method == "ward" else chunk.clone(), method, chunk_mask, chunk_stop)
        for chunk, chunk_mask, chunk_stop in _chunks(distances, mask, stop_at)
    ]
    return MergeTree(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _chunks(data: Tensor, mask: Tensor, stop_at: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    points = data.shape[1]
    images = data.shape[0] if data.is_cuda else max(1, CHUNK_BYTES // (points * points * data.element_size()))
    return list(zip(data.split(images), mask.split(images), stop_at.split(images), strict=True))
