"""Distances between points, of all pairs or along the edges of a connectivity graph, by scikit-learn's metric names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics.pairwise import pairwise_distances
from torch import Tensor
from torch.nn.functional import normalize

Metric = str | Callable[..., Any]

_NORMS = {"euclidean": 2, "l2": 2, "manhattan": 1, "l1": 1, "cityblock": 1}


def all_distances(points: Tensor, metric: Metric) -> Tensor:
    """Distances between all points.

    points: `[P, R]` float64, or the distances `[P, P]` themselves for "precomputed". metric: a name, or a function that
        makes the matrix out of the points (on the host, as those metrics are that are neither norms nor the cosine).
    Returns `[P, P]` float64, symmetric: above the diagonal what the metric gives, mirrored below.

    Raises ValueError for a matrix that is not square and for distances that are not finite.
    """
    if metric in _NORMS:
        distances = torch.cdist(points, points, p=_NORMS[metric], compute_mode="donot_use_mm_for_euclid_dist")
    elif metric == "cosine":
        distances = all_distances(_on_the_sphere(points), "euclidean").square() / 2
    elif metric == "precomputed":
        distances = _mirrored(points, len(points))
    elif callable(metric):
        matrix = torch.as_tensor(metric(points.numpy(force=True)), dtype=points.dtype, device=points.device)
        distances = _mirrored(matrix, len(points))
    else:
        distances = torch.from_numpy(squareform(pdist(points.numpy(force=True), metric))).to(points.device)
    return _finite(distances, metric)


def edge_lengths(points: Tensor, edges: Tensor, metric: Metric) -> Tensor:
    """Distance between the ends of each edge.

    points: `[P, R]` float64, or distances `[P, P]` for "precomputed". edges: `[E, 2]` int64. metric: a name, or a
        function of two points (called on the host).
    Returns `[E]` float64. Raises ValueError for another metric and for distances that are not finite.
    """
    # scikit-learn's graph holds each edge at its larger end, which matters only to metrics that are not symmetric.
    b, a = edges.unbind(1)
    if metric in _NORMS:
        lengths = torch.linalg.vector_norm(points[a] - points[b], ord=_NORMS[metric], dim=1)
    elif metric == "cosine":
        lengths = edge_lengths(_on_the_sphere(points), edges, "euclidean").square() / 2
    elif metric == "precomputed":
        lengths = points[a, b]
    elif callable(metric):
        host = points.numpy(force=True)
        lengths = points.new_tensor([metric(host[i], host[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)])
    else:
        offered = ", ".join([*_NORMS, "cosine", "precomputed"])
        raise ValueError(f"with a connectivity the metric must be one of {offered}, or a function; got {metric!r}")
    return _finite(lengths, metric)


def connected_edges(X: NDArray[np.float64], connectivity: Any, metric: Metric) -> tuple[Tensor, int]:
    """The edges of a connectivity graph made one component.

    X: `[P, R]`, or distances `[P, P]` for "precomputed". connectivity: `[P, P]` array or sparse matrix, an edge where
        either of two mirrored entries is not 0; its diagonal is ignored.
    Returns edges `[E, 2]` int64, smaller end first, and the number of components before each two of them were joined
    at their closest points.

    Raises ValueError for other shapes. Warns where edges had to be added.
    """
    graph = sparse.csr_array(connectivity, dtype=bool)
    if graph.shape != (len(X), len(X)):
        raise ValueError(f"connectivity must have a row and a column for each of {len(X)} samples; got {graph.shape}")
    if metric == "precomputed":
        _check_square(X, len(X))
    graph = sparse.triu(graph + graph.T, k=1)
    components, component = connected_components(graph, directed=False)
    edges = np.stack(graph.coords, axis=1).astype(np.int64)
    if components > 1:
        warnings.warn(
            f"The connectivity graph has {components} components. Completing it to avoid stopping the tree early: "
            "each two of them are joined at their closest points.",
            stacklevel=3,
        )
        members = [np.flatnonzero(component == number) for number in range(components)]
        bridges = [_closest_pair(X, later, earlier, metric) for earlier, later in combinations(members, 2)]
        edges = np.concatenate([edges, np.sort(bridges, axis=1)])
    return torch.from_numpy(edges), components


def _closest_pair(X: NDArray[np.float64], a: NDArray[np.intp], b: NDArray[np.intp], metric: Metric) -> tuple[int, int]:
    # scikit-learn's own distances, so that their rounding breaks ties as it does there.
    apart = X[np.ix_(a, b)] if metric == "precomputed" else pairwise_distances(X[a], X[b], metric=metric)
    i, j = np.unravel_index(apart.argmin(), apart.shape)
    return int(a[i]), int(b[j])


def _on_the_sphere(points: Tensor) -> Tensor:
    """Points scaled to length 1: half their squared distance is the cosine distance, without its cancellation."""
    if not points.any(dim=1).all():
        raise ValueError("Cosine affinity cannot be used when X contains zero vectors")
    return normalize(points, dim=1)


def _mirrored(distances: Tensor, samples: int) -> Tensor:
    _check_square(distances, samples)
    upper = distances.triu(1)
    return upper + upper.mT


def _check_square(distances: Tensor | NDArray[np.float64], samples: int) -> None:
    if distances.shape != (samples, samples):
        raise ValueError(f"Distance matrix should be square, got matrix of shape {tuple(distances.shape)}")


def _finite(distances: Tensor, metric: Metric) -> Tensor:
    if not distances.isfinite().all():
        raise ValueError(f"all distances must be finite; the metric {metric!r} gives some that are infinite or NaN")
    return distances
