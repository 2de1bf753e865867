"""Flat clusters of linkage matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, like
from ovsr_gpu.hierarchy.dendrogram import Dendrogram, steps_to_root
from ovsr_gpu.hierarchy.distances import Metric
from ovsr_gpu.hierarchy.linkages import as_floats, check_method, observation_linkage
from ovsr_gpu.hierarchy.statistics import inconsistency
from ovsr_gpu.kernels.trees import number_by_first

CRITERIA = ("inconsistent", "distance", "maxclust", "monocrit", "maxclust_monocrit")


def fcluster(
    Z: Array,
    t: float,
    criterion: str = "inconsistent",
    depth: int = 2,
    R: Array | None = None,
    monocrit: Array | None = None,
) -> Array:
    """Flat clusters of a linkage matrix.

    A cluster is a highest merge whose value, or that of a merge above it, is t or less, or else a single observation.

    Z: linkage matrix `[..., P-1, 4]`. t: threshold, or for "maxclust..." the greatest number of clusters, from 1 on.
    criterion: what the value of a merge is. "inconsistent": the greatest inconsistency coefficient of it and of the
        merges below it; "distance": the greatest height of those; "monocrit": given by `monocrit`. "maxclust" and
        "maxclust_monocrit" find the least t among the values of "distance" or "monocrit" that leaves few enough
        clusters, by bisection over the merges in their order.
    depth, R: of "inconsistent", the number of levels, or the result `[..., P-1, 4]` of `inconsistent` in their place.
    monocrit: `[..., P-1]`, should not fall from a merge to those above it.
    Returns labels `[..., P]` int32, 1, 2, ... in SciPy's order: along the leaves from left to right, but at each merge
    an observation comes after a cluster.

    Raises TypeError or ValueError for what is no linkage matrix, ValueError for other arguments and for NaN.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    tree = Dendrogram(Z)
    if criterion == "inconsistent":
        statistics = inconsistency(tree, depth) if R is None else tree.take("R", R, tree.points - 1, 4)
        if bool((statistics[:, :, :3] < 0).any()):
            raise ValueError("R must not have negative means, deviations or numbers of merges")
        values = tree.highest_below(statistics[:, :, 3])
    elif criterion in ("distance", "maxclust"):
        values = tree.highest_below(tree.heights)
    elif monocrit is None:
        raise ValueError(f"criterion {criterion!r} needs monocrit, a value for each merge")
    else:
        values = tree.take("monocrit", monocrit, tree.points - 1)
    if bool(values.isnan().any()):
        raise ValueError("the values that clusters are formed by (heights in Z, R or monocrit) must not be NaN")

    reach = tree.lowest_above(values)
    if criterion.startswith("maxclust"):
        if int(t) < 1:
            raise ValueError(f"t must be at least 1 cluster for criterion {criterion!r}; got {t}")
        if int(t) >= tree.points:
            one_each = torch.arange(1, tree.points + 1, dtype=torch.int32, device=values.device)
            return tree.give(one_each.expand(len(values), -1))
        threshold = _threshold_for(int(t), values, reach)
    else:
        threshold = torch.full_like(values[:, :1], float(t))
    joined = reach.gather(1, tree.joining) <= threshold
    return tree.give(tree.label(joined).to(torch.int32) + 1)


def fclusterdata(
    X: Array,
    t: float,
    criterion: str = "inconsistent",
    metric: Metric = "euclidean",
    depth: int = 2,
    method: str = "single",
    R: Array | None = None,
    *,
    dtype: str = "float64",
    device: torch.device | str | None = None,
) -> Array:
    """Flat clusters of observations `[..., P, R]`: `fcluster` of their `linkage`, whose arguments these are.

    "ward" takes any metric here, as in SciPy, and works with its distances as if they were Euclidean. Returns labels
    `[..., P]` int32. Raises TypeError for fewer than two dimensions, and what `linkage` and `fcluster` raise.
    """
    check_method(method)
    observations = as_floats(X, dtype, device)
    if observations.ndim < 2:
        raise TypeError(f"X must be observations [..., P, R]; got shape {list(observations.shape)}")
    return like(X, fcluster(observation_linkage(observations, method, metric, X), t, criterion, depth, R))


def cut_tree(Z: Array, n_clusters: Array | None = None, height: Array | None = None) -> Array:
    """Flat clusters at given numbers of clusters, or at given heights.

    Merges are made in the order of their heights; of equal ones the deepest comes first, and of those the leftmost.

    Z: linkage matrix `[..., P-1, 4]`, no merge below one of its children. n_clusters, height: at most one of the two, a
        number or a vector `[C]`; by default n_clusters is P, P-1, ..., 1. The merges made are those below the height,
        or as many as leave n_clusters, within 1 and P.
    Returns labels `[..., P, C]` int64, 0, 1, ... in the order of the first observations. Where SciPy 1.17 leaves a
    column of P clusters zero if it is not the first one, this one is right.

    Raises TypeError or ValueError for what is no linkage matrix, ValueError if both are given, for more dimensions, for
    cluster sizes that are not those of the tree, and for a merge below one of its children.
    """
    if n_clusters is not None and height is not None:
        raise ValueError("n_clusters and height cannot both be given")
    tree = Dendrogram(Z)
    points = tree.points
    if bool((tree.sizes != (tree.last - tree.first + 1)[:, points:]).any()):
        raise ValueError("the counts in the last column of Z must be the observations of each merge")
    if bool((tree.highest_below(tree.heights) > tree.heights).any()):
        raise ValueError(
            "cut_tree needs merges that do not lie below their children, which centroid and median linkage may make; "
            "fcluster takes them"
        )
    deepest_then_leftmost = tree.first - points * steps_to_root(tree.parent)
    order = deepest_then_leftmost[:, points:].argsort(dim=1)
    heights, by_height = tree.heights.gather(1, order).sort(dim=1, stable=True)
    merges = torch.arange(points - 1, device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order.gather(1, by_height), merges)

    if height is not None:
        made = torch.searchsorted(heights, _columns(height, "height", rank).expand(len(rank), -1).contiguous())
    elif n_clusters is not None:
        made = (points - _columns(n_clusters, "n_clusters", rank).ceil()).clamp(0, points)[None]
    else:
        made = torch.arange(points, device=rank.device)[None]
    joined = rank.gather(1, tree.joining)[:, None] < made[:, :, None]
    labels = tree.label(joined)
    return tree.give(number_by_first(labels.flatten(0, 1)).view_as(labels).mT)


def leaders(Z: Array, T: Array) -> tuple[Array, Array]:
    """The root node of each flat cluster.

    Z: linkage matrix `[P-1, 4]`. T: labels `[P]` int32, as of `fcluster`.
    Returns the nodes `[K]` int32, ids as in Z, and their labels `[K]` int32, in SciPy's order: that in which a walk
    from left to right leaves the merge above each.

    Raises TypeError or ValueError for what is no linkage matrix, TypeError for another dtype of T, ValueError for a
    batch, whose images may have different numbers of clusters, for another length, and for a T with a cluster that is
    no subtree of Z.
    """
    tree = Dendrogram(Z)
    if tree.batch:
        raise ValueError(
            f"leaders takes one linkage matrix [P-1, 4] at a time; got a batch of shape {list(tree.batch)}"
        )
    labels = as_tensor(T, device=tree.heights.device)
    if labels.dtype != torch.int32:
        raise TypeError(f"T must be int32; got {labels.dtype}")
    if labels.shape != (tree.points,):
        raise ValueError(f"T must have one label for each of the {tree.points} observations; got {list(labels.shape)}")

    children, parent, first, last = (part[0] for part in (tree.children, tree.parent, tree.first, tree.last))
    along_leaves = torch.empty_like(labels).scatter_(0, first[: tree.points], labels)
    changes = pad((along_leaves.diff() != 0).cumsum(0), (1, 0))
    within_one = changes[first] == changes[last]
    leads = within_one & ~within_one[parent]
    leads[-1] = within_one[-1]

    bottom_up = last[tree.points :].argsort(stable=True)
    walk = torch.cat([children[bottom_up].flatten(), parent[-1:]])
    found = walk[leads[walk]]
    clusters = len(labels.unique())
    if len(found) > clusters:
        raise ValueError(
            "T must be flat clusters of Z, each of them a subtree; "
            f"node {int(parent[found[clusters]])} joins a part of a cluster with another cluster"
        )
    return like(Z, found.to(torch.int32)), like(Z, along_leaves[first[found]])


def _threshold_for(clusters: int, values: Tensor, reach: Tensor) -> Tensor:
    """The value `[B, 1]` of the first merge, found by bisection, that as a threshold leaves few enough clusters."""
    low = torch.full_like(values[:, :1], -1, dtype=torch.int64)
    high = torch.full_like(low, values.shape[1])
    for _ in range(values.shape[1].bit_length()):
        middle = ((low + high) // 2).clamp_min(0)
        left = 1 + (reach > values.gather(1, middle)).sum(1, keepdim=True)
        low, high = torch.where(left > clusters, middle, low), torch.where(left > clusters, high, middle)
    return values.gather(1, high)


def _columns(given: Array, name: str, rank: Tensor) -> Tensor:
    columns = as_tensor(given, "float64", rank.device)
    if columns.ndim > 1:
        raise ValueError(f"{name} must be a number or a vector; got shape {list(columns.shape)}")
    return columns.reshape(-1)
