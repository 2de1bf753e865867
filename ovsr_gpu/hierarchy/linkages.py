"""Linkage matrices of observations or of distances."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, like
from ovsr_gpu.hierarchy.distances import Metric, check_metric, pairwise_distances, square_form
from ovsr_gpu.hierarchy.validation import ClusterWarning
from ovsr_gpu.kernels.linkage import FULL_GRAPH_METHODS, distance_linkage, full_graph_linkage
from ovsr_gpu.kernels.trees import MergeTree

DTYPES = ("float64", "float32")


def linkage(
    y: Array,
    method: str = "single",
    metric: Metric = "euclidean",
    optimal_ordering: bool = False,
    *,
    condensed: bool = False,
    dtype: str = "float64",
    device: torch.device | str | None = None,
) -> Array:
    """Linkage matrix of agglomerative clustering, as `scipy.cluster.hierarchy.linkage` defines it.

    y: observations `[..., P, R]`, or condensed distances `[P * (P-1) / 2]`, P > 1; a batch of condensed distances needs
        condensed=True. Numbers of any dtype.
    method: "single", "complete", "average", "weighted" or "ward".
    metric: between observations, "euclidean", "sqeuclidean", "cityblock", "chebyshev", "cosine", "correlation", or a
        function of two rows `[R]`, called for each pair; for "ward" only "euclidean".
    optimal_ordering: only False.
    dtype: "float64" or "float32", in which everything is computed and returned.
    device: where to compute, such as "cuda"; by default where y lies.
    Returns `[..., P-1, 4]`: of each merge the ids of the two clusters, the smaller first, the height and the number of
    observations; ids below P are observations, id P+m is the cluster of merge m. Which of equally near clusters merge
    first may differ from SciPy.

    Raises ValueError for other arguments and for values that are not finite, TypeError for a metric that is neither
    name nor function. Warns with ClusterWarning of observations that look like a square matrix of distances.
    """
    check_method(method)
    if optimal_ordering:
        raise ValueError("optimal_ordering=True is not offered; optimal_ordering=False gives the same tree unordered")
    values = as_floats(y, dtype, device)
    if values.ndim == 0:
        raise ValueError("y must be condensed distances or observations [..., P, R]; got a single number")
    if condensed or values.ndim == 1:
        tree = _distance_tree(square_form(values[None].flatten(0, -2)), method)
        return like(y, _matrix(tree, values.shape[:-1]))
    if method == "ward" and metric != "euclidean":
        raise ValueError(f"method 'ward' takes the metric 'euclidean' only; got {metric!r}")
    _warn_of_distances(values)
    return like(y, observation_linkage(values, method, metric, y))


def observation_linkage(observations: Tensor, method: str, metric: Metric, kind: Array) -> Tensor:
    """`linkage` of observations `[..., P, R]`, any method and metric; a function gets rows as arrays like `kind`."""
    check_metric(metric)
    *batch, points, features = observations.shape
    if points < 2:
        raise ValueError(
            f"a linkage is of two observations or more; got observations of shape {[*batch, points, features]}"
        )
    rows = observations[None].flatten(0, -3)
    if not callable(metric):
        # No squared distance is greater than the greatest of these.
        _check_finite((2 * rows).square().sum(2))
    if metric == "euclidean":
        tree = full_graph_linkage(rows, method)
    else:
        tree = _distance_tree(pairwise_distances(rows, metric, kind), method)
    return _matrix(tree, batch)


def check_method(method: str) -> None:
    if method not in FULL_GRAPH_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(FULL_GRAPH_METHODS)}; got {method!r} "
            "(centroid and median linkage, whose heights may fall from one merge to the next, are not offered)"
        )


def as_floats(array: Array, dtype: str, device: torch.device | str | None) -> Tensor:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    return as_tensor(array, dtype, device)


def _distance_tree(distances: Tensor, method: str) -> MergeTree:
    _check_finite(distances.square() if method == "ward" else distances)
    return distance_linkage(distances, method)


def _check_finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError("observations and distances must be finite; got NaN, inf, or values whose squares overflow")


def _warn_of_distances(observations: Tensor) -> None:
    points, features = observations.shape[-2:]
    if points != features:
        return
    diagonal = observations.diagonal(dim1=-2, dim2=-1)
    hollow = torch.isclose(diagonal, torch.zeros_like(diagonal)).all()
    if hollow & (observations >= 0).all() & torch.isclose(observations, observations.mT).all():
        warnings.warn(
            "observations that are a symmetric non-negative matrix with a diagonal of zeros are probably distances; "
            "give their upper triangle, row after row, as condensed distances",
            ClusterWarning,
            stacklevel=3,
        )


def _matrix(tree: MergeTree, batch: list[int] | torch.Size) -> Tensor:
    matrix = torch.cat([tree.children, tree.heights[..., None], tree.sizes[..., None]], dim=2)
    return matrix.reshape((*batch, *matrix.shape[1:]))
