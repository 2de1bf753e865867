"""Distances between observations, as square matrices."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array, convert_like

METRICS = ("euclidean", "sqeuclidean", "cityblock", "chebyshev", "cosine", "correlation")
Metric = str | Callable[[Array, Array], float]


def pairwise_distances(observations: Tensor, metric: Metric, like: Array) -> Tensor:
    """Compute the distances between all pairs of observations.

    Args:
        observations: `[B, P, R]`.
        metric: One of `METRICS`, or a function of two rows `[R]`.
        like: An array; a function receives rows of its type.

    Returns:
        Distances `[B, P, P]`.
    """
    if callable(metric):
        pairs = torch.combinations(torch.arange(observations.shape[1])).tolist()
        rows = convert_like(like, observations)
        condensed = [[float(metric(image[i], image[j])) for i, j in pairs] for image in rows]
        return square_form(observations.new_tensor(condensed))
    if metric in ("cosine", "correlation"):
        if metric == "correlation":
            observations = observations - observations.mean(2, keepdim=True)
        unit = observations / observations.norm(dim=2, keepdim=True)
        upper = (1 - (unit @ unit.mT).clamp(-1, 1)).triu(1)
        return upper + upper.mT
    if metric in ("cityblock", "chebyshev"):
        return torch.cdist(observations, observations, p=1 if metric == "cityblock" else torch.inf)
    euclidean = torch.cdist(observations, observations, compute_mode="donot_use_mm_for_euclid_dist")
    return euclidean.square_() if metric == "sqeuclidean" else euclidean


def check_metric(metric: Metric) -> None:
    """Check a metric.

    Raises:
        TypeError: The metric is neither a string nor a function.
        ValueError: Its name is unknown.
    """
    if not isinstance(metric, str) and not callable(metric):
        raise TypeError(f"metric must be a name or a function of two observations; got {metric!r}")
    if isinstance(metric, str) and metric not in METRICS:
        raise ValueError(
            f"metric must be one of {', '.join(METRICS)} or a function of two observations; got {metric!r} "
            "(for any other metric, pass condensed distances instead of observations)"
        )


def square_form(condensed: Tensor) -> Tensor:
    """Expand condensed distances to square matrices with zero diagonals.

    Args:
        condensed: `[B, P * (P-1) / 2]`, P >= 2.

    Returns:
        `[B, P, P]`.

    Raises:
        ValueError: The number of distances is not P * (P-1) / 2 for any P >= 2.
    """
    length = condensed.shape[1]
    points = (1 + isqrt(1 + 8 * length)) // 2
    if points < 2 or points * (points - 1) // 2 != length:
        raise ValueError(
            f"the number of condensed distances must be P * (P-1) / 2 for some P >= 2, such as 1, 3 or 6; got {length}"
        )
    row, column = torch.triu_indices(points, points, 1, device=condensed.device)
    square = condensed.new_zeros(len(condensed), points, points)
    square[:, row, column] = condensed
    square[:, column, row] = condensed
    return square
