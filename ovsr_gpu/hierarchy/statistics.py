"""Statistics of linkage matrices: cophenetic distances, inconsistency, greatest heights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array
from ovsr_gpu.hierarchy.dendrogram import Dendrogram


def cophenet(Z: Array, Y: Array | None = None) -> Array:
    """Cophenetic distances: for each pair of observations the height at which they first are in one cluster.

    Z: linkage matrix `[..., P-1, 4]`. Y: condensed distances `[..., P * (P-1) / 2]` that Z was made from.
    Returns condensed distances `[..., P * (P-1) / 2]` float64; given Y, a pair of the cophenetic correlation `[...]`,
    which is Pearson's correlation of the two (Sokal and Rohlf, 1962), and those.

    Raises TypeError or ValueError for what is no linkage matrix, ValueError for a Y of another shape.
    """
    tree = Dendrogram(Z)
    cophenetic = _cophenetic_distances(tree)
    if Y is None:
        return tree.give(cophenetic)
    given = tree.take("Y", Y, cophenetic.shape[1])
    one, other = (values - values.mean(1, keepdim=True) for values in (given, cophenetic))
    correlation = (one * other).sum(1) / (one.square().sum(1) * other.square().sum(1)).sqrt()
    return tree.give(correlation), tree.give(cophenetic)


def inconsistent(Z: Array, d: int = 2) -> Array:
    """Inconsistency statistics of each merge over the merges less than d levels below it, itself included.

    Z: linkage matrix `[..., P-1, 4]`. d: number of levels; 0 is taken as 1.
    Returns `[..., P-1, 4]` float64: mean and standard deviation of those merges' heights (0 for a single one), their
    number, and the inconsistency coefficient, by how many standard deviations the merge lies above the mean (0 if there
    is none); Jain and Dubes, 1988, "Algorithms for Clustering Data".

    Raises TypeError or ValueError for what is no linkage matrix, ValueError for a d that is no whole number from 0 on.
    """
    tree = Dendrogram(Z)
    return tree.give(inconsistency(tree, d))


def maxdists(Z: Array) -> Array:
    """The greatest height `[..., P-1]` float64 of each merge and of all below it, for `[..., P-1, 4]` linkage matrices.

    Raises TypeError or ValueError for what is no linkage matrix.
    """
    tree = Dendrogram(Z)
    return tree.give(tree.highest_below(tree.heights))


def inconsistency(tree: Dendrogram, depth: float) -> Tensor:
    """`inconsistent` of a tree: `[B, P-1, 4]`."""
    if depth != int(depth) or depth < 0:
        raise ValueError(f"the number of levels must be a whole number from 0 on; got {depth}")
    images, merges = tree.heights.shape
    heights = tree.heights.flatten()
    offset = merges * torch.arange(images, device=heights.device)[:, None, None]
    below = torch.where(tree.children < tree.points, -1, tree.children - tree.points + offset).flatten(0, 1)

    # The variance is a small difference of sums that would round differently in any other order than SciPy's: left,
    # right, itself. So the levels are walked in that order, for all merges at once.
    total, squares, count = (torch.zeros_like(heights) for _ in range(3))
    every = torch.arange(len(heights), device=heights.device)
    walk = [(every, every, max(int(depth), 1))]
    while walk:
        merge, link, levels = walk.pop()
        if levels == 1:
            total[merge] += heights[link]
            squares[merge] += heights[link].square()
            count[merge] += 1
            continue
        walk.append((merge, link, 1))
        for side in (1, 0):
            child = below[link, side]
            (inner,) = (child >= 0).nonzero(as_tuple=True)
            if len(inner):
                walk.append((merge[inner], child[inner], levels - 1))

    mean = total / count
    variance = (squares - total * total / count) / (count - 1).clamp_min(1)
    deviation = _square_root(variance.clamp_min(0))
    coefficient = torch.where(deviation > 0, (heights - mean) / deviation, 0)
    return torch.stack([mean, deviation, count, coefficient], dim=1).view(images, merges, 4)


def _cophenetic_distances(tree: Dendrogram) -> Tensor:
    """Of the merges that join the neighbors between two leaves the last one is the leaves' lowest common ancestor."""
    gaps = tree.points - 1
    between = tree.joining.to(torch.int32)[:, None].expand(-1, gaps, -1).triu().cummax(2).values
    place = tree.first[:, : tree.points]
    row, column = torch.triu_indices(tree.points, tree.points, 1, device=place.device)
    one, other = place[:, row], place[:, column]
    pair = torch.minimum(one, other) * gaps + torch.maximum(one, other) - 1
    return tree.heights.gather(1, between.flatten(1).gather(1, pair).to(torch.int64))


def _square_root(values: Tensor) -> Tensor:
    """On a CPU torch's may be MKL's, whose last digit need not be IEEE 754's, and `fcluster` compares to the digit."""
    return torch.from_numpy(np.sqrt(values.numpy())) if values.device.type == "cpu" else values.sqrt()
