"""Flat clusters from linkage matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, convert_like
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
    """Form flat clusters from a linkage matrix, as `scipy.cluster.hierarchy.fcluster` does.

    Each merge has a value, defined by the criterion. A flat cluster is a highest merge whose value, or that of any
    merge above it, is at most t; every observation below no such merge is a cluster of its own.

    Args:
        Z: Linkage matrix `[..., P-1, 4]`.
        t: Threshold; for "maxclust" and "maxclust_monocrit" the maximum number of clusters, at least 1.
        criterion: The value of a merge. "inconsistent": the maximum inconsistency coefficient of the merge and the
            merges below it. "distance": the maximum height of those merges. "monocrit": the values in `monocrit`.
            "maxclust" and "maxclust_monocrit": as "distance" and "monocrit", but the threshold is the smallest of these
            values that gives at most t clusters, found by bisection over the merges in their order.
        depth: For "inconsistent", the number of levels of `inconsistent`.
        R: For "inconsistent", a result `[..., P-1, 4]` of `inconsistent`, used instead of `depth`.
        monocrit: `[..., P-1]`, a value for each merge; should not decrease from a merge to the merges above it.

    Returns:
        Labels `[..., P]` int32: 1, 2, ... in SciPy's order, that is along the leaves from left to right, where an
        observation that is merged with a cluster comes after that cluster.

    Raises:
        TypeError: Z is not a linkage matrix.
        ValueError: Z is not a linkage matrix, another argument is invalid, or a value of a merge is NaN.

    Example:
        >>> from ovsr_gpu.hierarchy import fcluster, linkage
        >>> fcluster(linkage([[0.0], [1.0], [9.0]], "ward"), 2, "maxclust")
        array([1, 1, 2], dtype=int32)
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    tree = Dendrogram(Z)
    if criterion == "inconsistent":
        statistics = inconsistency(tree, depth) if R is None else tree.flatten_batch("R", R, tree.num_points - 1, 4)
        if bool((statistics[:, :, :3] < 0).any()):
            raise ValueError("R must not contain negative means, standard deviations or numbers of merges")
        values = tree.subtree_max(statistics[:, :, 3])
    elif criterion in ("distance", "maxclust"):
        values = tree.subtree_max(tree.heights)
    elif monocrit is None:
        raise ValueError(f"criterion {criterion!r} requires monocrit, a value for each merge")
    else:
        values = tree.flatten_batch("monocrit", monocrit, tree.num_points - 1)
    if bool(values.isnan().any()):
        raise ValueError("the values that define the clusters (heights in Z, R or monocrit) must not be NaN")

    min_above = tree.ancestor_min(values)
    if criterion.startswith("maxclust"):
        if int(t) < 1:
            raise ValueError(f"t must be at least 1 cluster for criterion {criterion!r}; got {t}")
        if int(t) >= tree.num_points:
            singletons = torch.arange(1, tree.num_points + 1, dtype=torch.int32, device=values.device)
            return tree.unflatten_batch(singletons.expand(len(values), -1))
        threshold = _threshold_for(int(t), values, min_above)
    else:
        threshold = torch.full_like(values[:, :1], float(t))
    same_cluster = min_above.gather(1, tree.adjacent_ancestor) <= threshold
    return tree.unflatten_batch(tree.label_leaves(same_cluster).to(torch.int32) + 1)


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
    """Form flat clusters from observations: `fcluster` of their `linkage`.

    Args:
        X: Observations `[..., P, R]`.
        t: See `fcluster`.
        criterion: See `fcluster`.
        metric: See `linkage`. As in SciPy, "ward" accepts any metric here and treats its distances as Euclidean.
        depth: See `fcluster`.
        method: See `linkage`.
        R: See `fcluster`.
        dtype: See `linkage`.
        device: See `linkage`.

    Returns:
        Labels `[..., P]` int32.

    Raises:
        TypeError: X has fewer than two dimensions; also as in `linkage` and `fcluster`.
        ValueError: As in `linkage` and `fcluster`.
    """
    check_method(method)
    observations = as_floats(X, dtype, device)
    if observations.ndim < 2:
        raise TypeError(f"X must be observations [..., P, R]; got shape {list(observations.shape)}")
    return convert_like(X, fcluster(observation_linkage(observations, method, metric, X), t, criterion, depth, R))


def cut_tree(Z: Array, n_clusters: Array | None = None, height: Array | None = None) -> Array:
    """Cut a tree at given numbers of clusters or at given heights, as `scipy.cluster.hierarchy.cut_tree` does.

    Merges are made in the order of their heights. Of merges of equal height the deepest comes first, and of equally
    deep ones the leftmost.

    Args:
        Z: Linkage matrix `[..., P-1, 4]`, in which no merge is below one of its children.
        n_clusters: A number or a vector `[C]`, clamped to 1 to P. Default: P, P-1, ..., 1.
        height: A number or a vector `[C]`, instead of `n_clusters`; the merges below each height are made.

    Returns:
        Labels `[..., P, C]` int64: 0, 1, ... in the order of the first observation of each cluster. SciPy 1.17 returns
        zeros for a column of P clusters that is not the first column; this function returns the correct labels.

    Raises:
        TypeError: Z is not a linkage matrix.
        ValueError: Z is not a linkage matrix, both `n_clusters` and `height` are given, one of them has more than
            one dimension, the cluster sizes in Z do not match the tree, or a merge is below one of its children.
    """
    if n_clusters is not None and height is not None:
        raise ValueError("n_clusters and height cannot both be given")
    tree = Dendrogram(Z)
    num_points = tree.num_points
    if bool((tree.sizes != (tree.last - tree.first + 1)[:, num_points:]).any()):
        raise ValueError("the last column of Z must contain the number of observations of each merge")
    if bool((tree.subtree_max(tree.heights) > tree.heights).any()):
        raise ValueError(
            "cut_tree does not support merges that are below their children, which centroid and median linkage can "
            "produce; use fcluster"
        )
    deepest_then_leftmost = tree.first - num_points * steps_to_root(tree.parent)
    order = deepest_then_leftmost[:, num_points:].argsort(dim=1)
    heights, by_height = tree.heights.gather(1, order).sort(dim=1, stable=True)
    merges = torch.arange(num_points - 1, device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order.gather(1, by_height), merges)

    if height is not None:
        num_merges = torch.searchsorted(
            heights, _as_vector(height, "height", rank.device).expand(len(rank), -1).contiguous()
        )
    elif n_clusters is not None:
        num_merges = (num_points - _as_vector(n_clusters, "n_clusters", rank.device).ceil()).clamp(0, num_points)[None]
    else:
        num_merges = torch.arange(num_points, device=rank.device)[None]
    same_cluster = rank.gather(1, tree.adjacent_ancestor)[:, None] < num_merges[:, :, None]
    labels = tree.label_leaves(same_cluster)
    return tree.unflatten_batch(number_by_first(labels.flatten(0, 1)).view_as(labels).mT)


def leaders(Z: Array, T: Array) -> tuple[Array, Array]:
    """Find the root node of each flat cluster, as `scipy.cluster.hierarchy.leaders` does.

    Args:
        Z: Linkage matrix `[P-1, 4]`.
        T: Labels `[P]` int32, as returned by `fcluster`.

    Returns:
        The nodes `[K]` int32, numbered as in Z, and their labels `[K]` int32. They are in SciPy's order: the order in
        which a post-order traversal from left to right visits their parents.

    Raises:
        TypeError: Z is not a linkage matrix or T is not int32.
        ValueError: Z is not a linkage matrix or is a batch (whose trees can have different numbers of clusters), T
            has another length, or a cluster of T is not a subtree of Z.
    """
    tree = Dendrogram(Z)
    if tree.batch_shape:
        raise ValueError(
            f"leaders supports one linkage matrix [P-1, 4] at a time; got a batch of shape {list(tree.batch_shape)}"
        )
    labels = as_tensor(T, device=tree.heights.device)
    if labels.dtype != torch.int32:
        raise TypeError(f"T must be int32; got {labels.dtype}")
    if labels.shape != (tree.num_points,):
        raise ValueError(
            f"T must have one label for each of the {tree.num_points} observations; got {list(labels.shape)}"
        )

    children, parent, first, last = (part[0] for part in (tree.children, tree.parent, tree.first, tree.last))
    along_leaves = torch.empty_like(labels).scatter_(0, first[: tree.num_points], labels)
    changes = pad((along_leaves.diff() != 0).cumsum(0), (1, 0))
    in_one_cluster = changes[first] == changes[last]
    is_leader = in_one_cluster & ~in_one_cluster[parent]
    is_leader[-1] = in_one_cluster[-1]

    bottom_up = last[tree.num_points :].argsort(stable=True)
    post_order = torch.cat([children[bottom_up].flatten(), parent[-1:]])
    leader_nodes = post_order[is_leader[post_order]]
    num_clusters = len(labels.unique())
    if len(leader_nodes) > num_clusters:
        raise ValueError(
            "each cluster of T must be a subtree of Z; "
            f"node {int(parent[leader_nodes[num_clusters]])} joins a part of one cluster with another cluster"
        )
    return convert_like(Z, leader_nodes.to(torch.int32)), convert_like(Z, along_leaves[first[leader_nodes]])


def _threshold_for(max_clusters: int, values: Tensor, min_above: Tensor) -> Tensor:
    """Return `[B, 1]`: the value of the first merge, by bisection, that as threshold gives at most `max_clusters`."""
    low = torch.full_like(values[:, :1], -1, dtype=torch.int64)
    high = torch.full_like(low, values.shape[1])
    for _ in range(values.shape[1].bit_length()):
        middle = ((low + high) // 2).clamp_min(0)
        too_many = 1 + (min_above > values.gather(1, middle)).sum(1, keepdim=True) > max_clusters
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return values.gather(1, high)


def _as_vector(values: Array, name: str, device: torch.device) -> Tensor:
    vector = as_tensor(values, "float64", device)
    if vector.ndim > 1:
        raise ValueError(f"{name} must be a number or a vector; got shape {list(vector.shape)}")
    return vector.reshape(-1)
