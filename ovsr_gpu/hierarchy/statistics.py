"""Statistics of linkage matrices: cophenetic distances, inconsistency and maximum heights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array
from ovsr_gpu.hierarchy.dendrogram import Dendrogram


def cophenet(Z: Array, Y: Array | None = None) -> Array:
    """Compute cophenetic distances: for each pair of observations, the height of the merge that first joins them.

    Args:
        Z: Linkage matrix `[..., P-1, 4]`.
        Y: Condensed distances `[..., P * (P-1) / 2]` from which Z was computed.

    Returns:
        Condensed distances `[..., P * (P-1) / 2]` float64. If `Y` is given, a tuple of the cophenetic correlation
        `[...]`, which is Pearson's correlation of `Y` and the cophenetic distances (Sokal and Rohlf, 1962), and these
        distances.

    Raises:
        TypeError: Z is not a linkage matrix.
        ValueError: Z is not a linkage matrix or Y has another shape.
    """
    tree = Dendrogram(Z)
    cophenetic = _cophenetic_distances(tree)
    if Y is None:
        return tree.unflatten_batch(cophenetic)
    distances = tree.flatten_batch("Y", Y, cophenetic.shape[1])
    x, y = (values - values.mean(1, keepdim=True) for values in (distances, cophenetic))
    correlation = (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1)).sqrt()
    return tree.unflatten_batch(correlation), tree.unflatten_batch(cophenetic)


def inconsistent(Z: Array, d: int = 2) -> Array:
    """Compute inconsistency statistics of each merge.

    The statistics are taken over the merge and the merges fewer than `d` levels below it (Jain and Dubes, 1988,
    "Algorithms for Clustering Data").

    Args:
        Z: Linkage matrix `[..., P-1, 4]`.
        d: Number of levels; 0 is treated as 1.

    Returns:
        `[..., P-1, 4]` float64: the mean and the standard deviation of the heights of these merges (0 for a single
        merge), their number, and the inconsistency coefficient: the height of the merge minus the mean, divided by the
        standard deviation (0 if the standard deviation is 0).

    Raises:
        TypeError: Z is not a linkage matrix.
        ValueError: Z is not a linkage matrix or d is not a non-negative integer.
    """
    tree = Dendrogram(Z)
    return tree.unflatten_batch(inconsistency(tree, d))


def maxdists(Z: Array) -> Array:
    """Compute the maximum height of each merge and all merges below it.

    Args:
        Z: Linkage matrix `[..., P-1, 4]`.

    Returns:
        `[..., P-1]` float64.

    Raises:
        TypeError, ValueError: Z is not a linkage matrix.
    """
    tree = Dendrogram(Z)
    return tree.unflatten_batch(tree.subtree_max(tree.heights))


def inconsistency(tree: Dendrogram, depth: float) -> Tensor:
    """Compute `inconsistent` of a tree: `[B, P-1, 4]` float64.

    Raises:
        ValueError: `depth` is not a non-negative integer.
    """
    if depth != int(depth) or depth < 0:
        raise ValueError(f"the number of levels must be a non-negative integer; got {depth}")
    images, merges = tree.heights.shape
    heights = tree.heights.flatten()
    offset = merges * torch.arange(images, device=heights.device)[:, None, None]
    below = torch.where(tree.children < tree.num_points, -1, tree.children - tree.num_points + offset).flatten(0, 1)

    # The variance is a small difference of large sums, so its rounding depends on the order of summation. This
    # traversal sums in SciPy's order (left child, right child, merge itself) for all merges at once.
    total, squares, count = (torch.zeros_like(heights) for _ in range(3))
    all_merges = torch.arange(len(heights), device=heights.device)
    stack = [(all_merges, all_merges, max(int(depth), 1))]
    while stack:
        merge, descendant, levels = stack.pop()
        if levels == 1:
            total[merge] += heights[descendant]
            squares[merge] += heights[descendant].square()
            count[merge] += 1
            continue
        stack.append((merge, descendant, 1))
        for side in (1, 0):
            child = below[descendant, side]
            (is_merge,) = (child >= 0).nonzero(as_tuple=True)
            if len(is_merge):
                stack.append((merge[is_merge], child[is_merge], levels - 1))

    mean = total / count
    variance = (squares - total * total / count) / (count - 1).clamp_min(1)
    deviation = _square_root(variance.clamp_min(0))
    coefficient = torch.where(deviation > 0, (heights - mean) / deviation, 0)
    return torch.stack([mean, deviation, count, coefficient], dim=1).view(images, merges, 4)


def _cophenetic_distances(tree: Dendrogram) -> Tensor:
    """Return condensed distances `[B, P * (P-1) / 2]`: the heights of the lowest common ancestors."""
    # The lowest common ancestor of two leaves is the last of the merges that join the adjacent leaves between them.
    gaps = tree.num_points - 1
    between = tree.adjacent_ancestor.to(torch.int32)[:, None].expand(-1, gaps, -1).triu().cummax(2).values
    position = tree.first[:, : tree.num_points]
    row, column = torch.triu_indices(tree.num_points, tree.num_points, 1, device=position.device)
    a, b = position[:, row], position[:, column]
    pair = torch.minimum(a, b) * gaps + torch.maximum(a, b) - 1
    return tree.heights.gather(1, between.flatten(1).gather(1, pair).to(torch.int64))


def _square_root(values: Tensor) -> Tensor:
    """Return correctly rounded square roots, because `fcluster` compares them exactly."""
    # On a CPU, torch may call MKL, whose last digit can differ from IEEE 754.
    return torch.from_numpy(np.sqrt(values.numpy())) if values.device.type == "cpu" else values.sqrt()
