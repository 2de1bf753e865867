"""Linkage matrices from observations or distances."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, convert_like
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
    """Perform agglomerative clustering, as `scipy.cluster.hierarchy.linkage` does.

    If several pairs of clusters are equally close, they may merge in another order than in SciPy.

    Args:
        y: Observations `[..., P, R]`, or condensed distances `[P * (P-1) / 2]`, P >= 2, of any numeric dtype. A batch
            of condensed distances requires `condensed=True`.
        method: "single", "complete", "average", "weighted" or "ward".
        metric: Distance between observations: "euclidean", "sqeuclidean", "cityblock", "chebyshev", "cosine",
            "correlation", or a function of two rows `[R]` that is called for each pair. "ward" supports only
            "euclidean".
        optimal_ordering: Only False is supported.
        condensed: Whether `y` holds condensed distances `[..., P * (P-1) / 2]` whatever its number of dimensions.
        dtype: "float64" or "float32", the dtype of the computation and of the result.
        device: Where to compute, such as "cuda". Default: the device of `y`.

    Returns:
        Linkage matrix `[..., P-1, 4]`. Each row is a merge: the ids of the two clusters, the smaller one first, the
        height and the number of observations. Ids below P are observations; id P+m is the cluster of merge m.

    Raises:
        TypeError: The metric is neither a name nor a function.
        ValueError: Another argument is invalid or a value is not finite.

    Warns:
        ClusterWarning: The observations look like a square matrix of distances.

    Example:
        >>> from ovsr_gpu.hierarchy import linkage
        >>> linkage([[0.0], [1.0], [5.0]], "single")
        array([[0., 1., 1., 2.],
               [2., 3., 4., 3.]])
    """
    check_method(method)
    if optimal_ordering:
        raise ValueError(
            "optimal_ordering=True is not supported; optimal_ordering=False gives the same tree with another leaf order"
        )
    values = as_floats(y, dtype, device)
    if values.ndim == 0:
        raise ValueError("y must be condensed distances or observations [..., P, R]; got a single number")
    if condensed or values.ndim == 1:
        tree = _distance_tree(square_form(values[None].flatten(0, -2)), method)
        return convert_like(y, _linkage_matrix(tree, values.shape[:-1]))
    if method == "ward" and metric != "euclidean":
        raise ValueError(f"method 'ward' supports only the metric 'euclidean'; got {metric!r}")
    _warn_about_distances(values)
    return convert_like(y, observation_linkage(values, method, metric, y))


def observation_linkage(observations: Tensor, method: str, metric: Metric, like: Array) -> Tensor:
    """Compute `linkage` of observations `[..., P, R]` for any method and metric.

    Args:
        observations: `[..., P, R]`, P >= 2.
        method: See `linkage`; "ward" accepts any metric here.
        metric: See `linkage`.
        like: An array; a metric that is a function receives rows of its type.

    Returns:
        Linkage matrix `[..., P-1, 4]`.

    Raises:
        TypeError, ValueError: As in `linkage`.
    """
    check_metric(metric)
    *batch, points, features = observations.shape
    if points < 2:
        raise ValueError(
            f"linkage requires at least two observations; got observations of shape {[*batch, points, features]}"
        )
    rows = observations[None].flatten(0, -3)
    if not callable(metric):
        # Four times the largest squared norm is an upper bound of all squared distances.
        _check_finite((2 * rows).square().sum(2))
    if metric == "euclidean":
        tree = full_graph_linkage(rows, method)
    else:
        tree = _distance_tree(pairwise_distances(rows, metric, like), method)
    return _linkage_matrix(tree, batch)


def check_method(method: str) -> None:
    """Check the name of the linkage method.

    Raises:
        ValueError: The name is unknown.
    """
    if method not in FULL_GRAPH_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(FULL_GRAPH_METHODS)}; got {method!r} "
            "(centroid and median linkage, whose heights may decrease from one merge to the next, are not supported)"
        )


def as_floats(array: Array, dtype: str, device: torch.device | str | None) -> Tensor:
    """Return the array as a tensor of dtype "float64" or "float32".

    Raises:
        ValueError: `dtype` has another value.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    return as_tensor(array, dtype, device)


def _distance_tree(distances: Tensor, method: str) -> MergeTree:
    _check_finite(distances.square() if method == "ward" else distances)
    return distance_linkage(distances, method)


def _check_finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError("observations and distances must be finite; got NaN, inf, or values whose squares overflow")


def _warn_about_distances(observations: Tensor) -> None:
    points, features = observations.shape[-2:]
    if points != features:
        return
    diagonal = observations.diagonal(dim1=-2, dim2=-1)
    is_zero_diagonal = torch.isclose(diagonal, torch.zeros_like(diagonal)).all()
    if is_zero_diagonal & (observations >= 0).all() & torch.isclose(observations, observations.mT).all():
        warnings.warn(
            "the observations are a symmetric non-negative matrix with a zero diagonal and are probably distances; "
            "pass their upper triangle, row by row, as condensed distances",
            ClusterWarning,
            stacklevel=3,
        )


def _linkage_matrix(tree: MergeTree, batch: list[int] | torch.Size) -> Tensor:
    matrix = torch.cat([tree.children, tree.heights[..., None], tree.sizes[..., None]], dim=2)
    return matrix.reshape((*batch, *matrix.shape[1:]))
