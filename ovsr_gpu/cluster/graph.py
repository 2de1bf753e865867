"""Distances between points, for all pairs or for the edges of a connectivity graph, by scikit-learn's metric names."""

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
    """Compute the distances between all pairs of points.

    Args:
        points: `[P, R]` float64; with metric="precomputed" the distances `[P, P]` themselves.
        metric: A name, or a function that computes the matrix from the points. Functions and all metrics except norms
            and "cosine" run on the host.

    Returns:
        `[P, P]` float64, symmetric: the part above the diagonal is mirrored.

    Raises:
        ValueError: A matrix is not square or a distance is not finite.
    """
    if metric in _NORMS:
        distances = torch.cdist(points, points, p=_NORMS[metric], compute_mode="donot_use_mm_for_euclid_dist")
    elif metric == "cosine":
        distances = all_distances(_to_unit_length(points), "euclidean").square() / 2
    elif metric == "precomputed":
        distances = _mirror_upper(points, len(points))
    elif callable(metric):
        matrix = torch.as_tensor(metric(points.numpy(force=True)), dtype=points.dtype, device=points.device)
        distances = _mirror_upper(matrix, len(points))
    else:
        distances = torch.from_numpy(squareform(pdist(points.numpy(force=True), metric))).to(points.device)
    return _check_finite(distances, metric)


def edge_lengths(points: Tensor, edges: Tensor, metric: Metric) -> Tensor:
    """Compute the distance between the two ends of each edge.

    Args:
        points: `[P, R]` float64; with metric="precomputed" the distances `[P, P]`.
        edges: `[E, 2]` int64.
        metric: A name, or a function of two points that is called on the host.

    Returns:
        `[E]` float64.

    Raises:
        ValueError: The metric is unknown or a distance is not finite.
    """
    # scikit-learn stores each edge at its larger end, which matters only for asymmetric metrics.
    b, a = edges.unbind(1)
    if metric in _NORMS:
        lengths = torch.linalg.vector_norm(points[a] - points[b], ord=_NORMS[metric], dim=1)
    elif metric == "cosine":
        lengths = edge_lengths(_to_unit_length(points), edges, "euclidean").square() / 2
    elif metric == "precomputed":
        lengths = points[a, b]
    elif callable(metric):
        host = points.numpy(force=True)
        lengths = points.new_tensor([metric(host[i], host[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)])
    else:
        supported = ", ".join([*_NORMS, "cosine", "precomputed"])
        raise ValueError(f"with a connectivity, the metric must be one of {supported}, or a function; got {metric!r}")
    return _check_finite(lengths, metric)


def connected_edges(X: NDArray[np.float64], connectivity: Any, metric: Metric) -> tuple[Tensor, int]:
    """Return the edges of a connectivity graph, with edges added that make it connected.

    Each pair of components is joined at its closest points.

    Args:
        X: `[P, R]`; with metric="precomputed" the distances `[P, P]`.
        connectivity: `[P, P]` array or sparse matrix. Two points are connected if either of their two entries is not 0;
            the diagonal is ignored.
        metric: Metric of the closest points.

    Returns:
        The edges `[E, 2]` int64, smaller end first, and the number of components of the original graph.

    Raises:
        ValueError: X or the connectivity has another shape.

    Warns:
        UserWarning: Edges were added.
    """
    graph = sparse.csr_array(connectivity, dtype=bool)
    if graph.shape != (len(X), len(X)):
        raise ValueError(
            f"connectivity must have one row and one column for each of {len(X)} samples; got {graph.shape}"
        )
    if metric == "precomputed":
        _check_square(X, len(X))
    graph = sparse.triu(graph + graph.T, k=1)
    components, component = connected_components(graph, directed=False)
    edges = np.stack(graph.coords, axis=1).astype(np.int64)
    if components > 1:
        warnings.warn(
            f"The connectivity graph has {components} components. Completing it to avoid stopping the tree early: "
            "each pair of components is joined at its closest points.",
            stacklevel=3,
        )
        members = [np.flatnonzero(component == number) for number in range(components)]
        bridges = [_closest_pair(X, later, earlier, metric) for earlier, later in combinations(members, 2)]
        edges = np.concatenate([edges, np.sort(bridges, axis=1)])
    return torch.from_numpy(edges), components


def _closest_pair(X: NDArray[np.float64], a: NDArray[np.intp], b: NDArray[np.intp], metric: Metric) -> tuple[int, int]:
    # Uses scikit-learn's distances, so that rounding breaks ties in the same way.
    distances = X[np.ix_(a, b)] if metric == "precomputed" else pairwise_distances(X[a], X[b], metric=metric)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    return int(a[i]), int(b[j])


def _to_unit_length(points: Tensor) -> Tensor:
    """Scale points to length 1; half their squared distance is the cosine distance, without its cancellation."""
    if not points.any(dim=1).all():
        raise ValueError("Cosine affinity cannot be used when X contains zero vectors")
    return normalize(points, dim=1)


def _mirror_upper(distances: Tensor, samples: int) -> Tensor:
    _check_square(distances, samples)
    upper = distances.triu(1)
    return upper + upper.mT


def _check_square(distances: Tensor | NDArray[np.float64], samples: int) -> None:
    if distances.shape != (samples, samples):
        raise ValueError(f"Distance matrix should be square, got matrix of shape {tuple(distances.shape)}")


def _check_finite(distances: Tensor, metric: Metric) -> Tensor:
    if not distances.isfinite().all():
        raise ValueError(f"all distances must be finite; the metric {metric!r} gives infinite or NaN values")
    return distances
