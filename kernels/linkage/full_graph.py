"""Agglomerative clustering on the full graph, all images at once, by rounds of reciprocal nearest neighbours.

Ward, complete, average and single linkage are reducible: joining two clusters that are each other's nearest neighbour
brings neither nearer to any third one. So all such pairs of a round merge together, and the tree sorted by height is
the one that merging the single closest pair of all would build (Murtagh, 1983, "A survey of recent advances in
hierarchical clustering algorithms"). New distances come from the recurrence of Lance and Williams (1967).
"""

from __future__ import annotations

import torch
from torch import Tensor

LINKAGES = ("ward", "complete", "average", "single")


def full_graph_linkage(points: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Merge tree of each image over the Euclidean distances of all its points.

    points: `[B, P, R]` float32 or float64, P >= 1. method: "ward", "complete", "average" or "single".
    Returns children `[B, P-1, 2]` int64 (smaller id first, id P+m is the cluster of merge m) and heights `[B, P-1]`
    of the points' dtype, ascending, both as `scipy.cluster.hierarchy.linkage` defines them. Of equally near clusters
    the one whose oldest pixel comes first is taken.

    Raises ValueError for another method, shape or dtype.
    """
    if method not in LINKAGES:
        raise ValueError(f"method must be one of {', '.join(LINKAGES)}; got {method!r}")
    if points.ndim != 3 or points.shape[1] < 1 or not points.is_floating_point():
        raise ValueError(
            f"points must be a floating-point [B, P, R] tensor with P >= 1; got {list(points.shape)} {points.dtype}"
        )
    images, pixels, _ = points.shape
    device = points.device

    # The matrix holds squared distances for Ward, distances for the others; the diagonal and empty slots are infinite.
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    if method == "ward":
        distance = distance.square_()
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    size = points.new_ones(images, pixels)
    cluster = torch.arange(pixels, device=device).expand(images, pixels)  # id of the cluster in each slot
    height = points.new_zeros(images, pixels)  # at which that cluster was made
    children = torch.zeros(images, pixels - 1, 2, dtype=torch.int64, device=device)
    heights = points.new_zeros(images, pixels - 1)
    made = torch.zeros(images, 1, dtype=torch.int64, device=device)  # merges so far

    while distance.shape[1] > 1:
        slots = torch.arange(distance.shape[1], device=device)
        nearest = distance.argmin(2)
        nearest_distance = distance.gather(2, nearest[:, :, None])[:, :, 0]
        mutual = (nearest.gather(1, nearest) == slots) & nearest_distance.isfinite()
        leads = mutual & (slots < nearest)

        # Rounding must not put a union below its parts.
        at = torch.maximum(nearest_distance, torch.maximum(height, height.gather(1, nearest)))
        place = made + leads.cumsum(1) - 1
        image, slot = leads.nonzero(as_tuple=True)
        row = place[image, slot]
        children[image, row] = torch.stack([cluster[image, slot], cluster[image, nearest[image, slot]]], dim=1)
        heights[image, row] = at[image, slot]
        made = made + leads.sum(1, keepdim=True)

        stays = (size > 0) & ~(mutual & ~leads)
        first = torch.argsort(~stays, dim=1, stable=True)[:, : int(stays.sum(1).max())]
        second = torch.where(leads, nearest, slots).gather(1, first)
        joined = leads.gather(1, first)
        live = stays.gather(1, first)

        distance = _join(distance, size, nearest_distance, first, second, joined, method)
        new_size = size.gather(1, first) + torch.where(joined, size.gather(1, second), 0)
        # The same over the columns: the matrix is symmetric, so its transpose will do.
        distance = _join(distance.mT, size, nearest_distance, first, second, joined, method, others=new_size)
        distance = torch.where(live[:, :, None] & live[:, None, :], distance, torch.inf)
        distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        size = torch.where(live, new_size, 0)
        cluster = torch.where(joined, pixels + place.gather(1, first), cluster.gather(1, first))
        height = torch.where(joined, at.gather(1, first), height.gather(1, first))

    if method == "ward":
        heights = heights.sqrt()
    return _by_height(children, heights)


def _join(
    distance: Tensor,
    size: Tensor,
    between: Tensor,
    first: Tensor,
    second: Tensor,
    joined: Tensor,
    method: str,
    others: Tensor | None = None,
) -> Tensor:
    """Rows `[B, K', K]` of the clusters that stay, each joined with its partner where it has one (Lance-Williams)."""
    width = distance.shape[2]
    a = distance.gather(1, first[:, :, None].expand(-1, -1, width))
    b = distance.gather(1, second[:, :, None].expand(-1, -1, width))
    size_a = size.gather(1, first)[:, :, None]
    size_b = size.gather(1, second)[:, :, None]
    if method == "single":
        union = torch.minimum(a, b)
    elif method == "complete":
        union = torch.maximum(a, b)
    elif method == "average":
        union = (size_a * a + size_b * b) / (size_a + size_b)
    else:
        size_x = (size if others is None else others)[:, None, :]
        apart = between.gather(1, first)[:, :, None]
        union = ((size_a + size_x) * a + (size_b + size_x) * b - size_x * apart) / (size_a + size_b + size_x)
    return torch.where(joined[:, :, None], union, a)


def _by_height(children: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
    """Renumber the merges of each image in the order of their heights."""
    merges = heights.shape[1]
    heights, order = heights.sort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(merges, device=order.device).expand_as(order))
    pixels = merges + 1
    children = children.gather(1, order[:, :, None].expand(-1, -1, 2))
    merge = (children - pixels).clamp_min(0)
    renumbered = pixels + rank.gather(1, merge.flatten(1)).view_as(children) if merges else children
    return torch.where(children < pixels, children, renumbered).sort(dim=2).values, heights
