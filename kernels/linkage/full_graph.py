"""Agglomerative clustering on the full graph, all images at once: SciPy's trees.

Ward, complete, average, weighted and single linkage are reducible: joining two clusters that are each other's nearest
neighbour brings neither nearer to any third one. So all such pairs of a round merge together, and the tree sorted by
height is the one that merging the single closest pair of all would build (Murtagh, 1983, "A survey of recent advances
in hierarchical clustering algorithms"). New distances come from the recurrence of Lance and Williams (1967). Single
linkage, whose clusters grow point by point, comes from a minimum spanning tree instead.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from ovsr_gpu.kernels.backend import choose_backend
from ovsr_gpu.kernels.linkage import full_graph_torch
from ovsr_gpu.kernels.linkage.arguments import check_floating, check_method, mask_and_wanted
from ovsr_gpu.kernels.trees import MergeTree, unmade

FULL_GRAPH_METHODS = ("ward", "complete", "average", "weighted", "single")
CPU_CACHE_BYTES = 1 << 24
"""Distances of about so many bytes at a time are worked on together on a CPU, whose caches they then fit."""


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
    near clusters those are joined whose first points i, j have the least i xor j; for "single" ties are resolved by
    the order of the points. Points that are not finite are never merged.

    Raises ValueError for another method, shape or dtype, RuntimeError for a backend that cannot run here.
    """
    check_method(method, FULL_GRAPH_METHODS)
    check_floating("points", points, "[B, P, R] with P >= 1", points.ndim == 3 and points.shape[1] >= 1)
    mask, wanted = mask_and_wanted(points, points.shape[1], mask, stop_at)
    return _in_chunks(points, method, mask, wanted, backend, lambda engine, chunk: engine.distances(chunk, method))


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
    mask, wanted = mask_and_wanted(distances, distances.shape[1], mask, stop_at)
    own = Tensor.square if method == "ward" else Tensor.clone
    return _in_chunks(distances, method, mask, wanted, backend, lambda _, chunk: own(chunk))


def _in_chunks(
    data: Tensor,
    method: str,
    mask: Tensor,
    wanted: Tensor,
    backend: str,
    matrix: Callable[[ModuleType, Tensor], Tensor],
) -> MergeTree:
    """Trees of a few images at a time; `matrix(engine, data)` makes the distances of those."""
    if choose_backend(backend, data) == "triton":
        from ovsr_gpu.kernels.linkage import full_graph_triton

        engine: ModuleType = full_graph_triton
    else:
        engine = full_graph_torch
    if not len(data):
        return unmade(0, data.shape[1] - 1, data)
    at_once = max(1, _chunk_bytes(data.device) // (data.shape[1] ** 2 * data.element_size()))
    trees = [
        engine.rounds(matrix(engine, chunk), method, chunk_mask, chunk_wanted)
        for chunk, chunk_mask, chunk_wanted in zip(
            data.split(at_once), mask.split(at_once), wanted.split(at_once), strict=True
        )
    ]
    return MergeTree(*(torch.cat(part) for part in zip(*trees, strict=True)))


def _chunk_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 4
    return CPU_CACHE_BYTES
