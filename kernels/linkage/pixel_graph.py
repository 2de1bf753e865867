"""Agglomerative clustering on a graph of neighbours, all images at once: scikit-learn's trees."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from ovsr_gpu.kernels.backend import choose_backend
from ovsr_gpu.kernels.linkage import pixel_graph_heap, pixel_graph_torch
from ovsr_gpu.kernels.linkage.arguments import check_floating, check_method, mask_and_wanted
from ovsr_gpu.kernels.trees import MergeTree

PIXEL_GRAPH_METHODS = ("ward", "complete", "average", "single")


def grid_edges(height: int, width: int, connectivity: str, device: torch.device) -> Tensor:
    """The `[E, 2]` int64 pixel pairs of a grid whose cells touch by a side ("4") or also by a corner ("8")."""
    cells = torch.arange(height * width, device=device).view(height, width)
    pairs = [(cells[:, :-1], cells[:, 1:]), (cells[:-1], cells[1:])]
    if connectivity == "8":
        pairs += [(cells[:-1, :-1], cells[1:, 1:]), (cells[:-1, 1:], cells[1:, :-1])]
    elif connectivity != "4":
        raise ValueError(f"connectivity must be '4' or '8'; got {connectivity!r}")
    return torch.cat([torch.stack([a.flatten(), b.flatten()], dim=1) for a, b in pairs])


def pixel_graph_linkage(
    points: Tensor,
    edges: Tensor,
    method: str = "ward",
    *,
    mask: Tensor | None = None,
    stop_at: int | Tensor = 1,
    backend: str = "auto",
) -> MergeTree:
    """Merge tree of each image when only clusters joined by an edge may merge.

    points: `[B, P, R]` float32 or float64, P >= 1, finite. edges: `[E, 2]` int64, pairs of points, the same for every
        image. method: one of PIXEL_GRAPH_METHODS; all but "ward" start from the Euclidean lengths of the edges.
    mask: `[B, P]` bool, the points that take part; default all. stop_at: number of clusters, an int or `[B]` int64, at
        which merging stops. backend: "torch", "triton", or "auto" for the one that suits the device.
    Returns for "ward" the tree of `sklearn.cluster.ward_tree` with this connectivity: merges in greedy order, ties by
    the ids, heights sqrt(2 * the increase of the within-cluster sum of squares), which can fall from one merge to the
    next. In float64 it is that tree to the last merge; in float32 the tree of the same order in float32 arithmetic.
    For the others the tree of `sklearn.cluster.linkage_tree`, whose ties are open. A graph of several components keeps
    that many clusters.

    Raises ValueError for another method, shape or dtype, RuntimeError for a backend that cannot run here.
    """
    check_method(method, PIXEL_GRAPH_METHODS)
    check_floating("points", points, "[B, P, R] with P >= 1", points.ndim == 3 and points.shape[1] >= 1)
    if method != "ward":
        a, b = points[:, edges[:, 0]], points[:, edges[:, 1]]
        lengths = torch.linalg.vector_norm(a - b, dim=2)
        return edge_linkage(lengths, edges, points.shape[1], method, mask=mask, stop_at=stop_at, backend=backend)
    _check_edges(edges, points.shape[1])
    mask, wanted = mask_and_wanted(points, points.shape[1], mask, stop_at)
    return _engine(backend, points).ward_tree(points, edges, mask, wanted)


def edge_linkage(
    weights: Tensor,
    edges: Tensor,
    points: int,
    method: str,
    *,
    mask: Tensor | None = None,
    stop_at: int | Tensor = 1,
    backend: str = "auto",
) -> MergeTree:
    """Merge tree of each image from the weights of the edges of a graph on `points` points.

    weights: `[B, E]` float32 or float64, >= 0, finite; of an edge given twice the smaller one counts.
    method: "complete", "average" or "single". The rest is as in `pixel_graph_linkage`.
    """
    check_method(method, PIXEL_GRAPH_METHODS[1:])
    _check_edges(edges, points)
    check_floating("weights", weights, f"[B, {len(edges)}]", weights.ndim == 2 and weights.shape[1] == len(edges))
    mask, wanted = mask_and_wanted(weights, points, mask, stop_at)
    return _engine(backend, weights).edge_tree(weights, edges, method, mask, wanted)


def _engine(backend: str, data: Tensor) -> ModuleType:
    chosen = choose_backend(backend, data, on_cpu="heap")
    if chosen == "triton":
        from ovsr_gpu.kernels.linkage import pixel_graph_triton

        return pixel_graph_triton
    return pixel_graph_heap if chosen == "heap" else pixel_graph_torch


def _check_edges(edges: Tensor, points: int) -> None:
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype != torch.int64:
        raise ValueError(f"edges must be int64 of shape [E, 2]; got {list(edges.shape)} {edges.dtype}")
    inside = ((edges >= 0) & (edges < points)).all()
    if edges.is_cuda:
        torch._assert_async(inside, "edges must join points that exist")  # without waiting for the device
    elif not inside:
        raise ValueError(f"edges must join points 0 to {points - 1}; got {int(edges.min())} to {int(edges.max())}")
