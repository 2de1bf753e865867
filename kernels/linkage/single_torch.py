"""Single linkage as batched torch operations: a minimum spanning tree, whose edges in the order of their lengths are
the merges (Gower and Ross, 1969, "Minimum spanning trees and single linkage cluster analysis").

Rounds of mutual nearest neighbours would be slow here: single linkage grows one large cluster point by point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.trees import MergeTree, first_merges, unmade


def single_linkage(distance: Tensor, mask: Tensor, stop_at: Tensor) -> MergeTree:
    """Merge tree of each image from its distances `[B, P, P]`, whose diagonal is overwritten.

    mask: `[B, P]` bool. stop_at: `[B]` int64.
    """
    wanted = (mask.sum(1) - stop_at).clamp_min(0)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    mask = mask & distance.isfinite().any(2)
    ends, lengths = spanning_tree(distance, mask)
    lengths, order = lengths.sort(dim=1, stable=True)
    tree = merges_of(ends.gather(1, order[:, :, None].expand(-1, -1, 2)), lengths)
    return first_merges(tree, wanted)


def spanning_tree(distance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Prim's algorithm from the first point that takes part; of equally near points the first is next.

    Returns ends `[B, P-1, 2]` int64 and lengths `[B, P-1]`, infinite where no point was left.
    """
    images, points = mask.shape
    image = torch.arange(images, device=mask.device)
    ends = torch.zeros(images, points - 1, 2, dtype=torch.int64, device=mask.device)
    lengths = distance.new_full((images, points - 1), torch.inf)
    reach = distance.new_full((images, points), torch.inf)  # of each point from the tree, and from which point of it
    tail = torch.zeros_like(mask, dtype=torch.int64)
    closed = ~mask
    last = mask.to(torch.uint8).argmax(1)
    for step in range(points - 1):
        closed[image, last] = True
        row = distance[image, last]
        nearer = row < reach
        reach = torch.where(nearer, row, reach).masked_fill_(closed, torch.inf)
        tail = torch.where(nearer, last[:, None], tail)
        last = reach.argmin(1)
        lengths[:, step] = reach[image, last]
        ends[:, step, 0], ends[:, step, 1] = tail[image, last], last
    return ends, lengths


def merges_of(ends: Tensor, lengths: Tensor) -> MergeTree:
    """The tree that joins the ends `[B, P-1, 2]` of one edge after another; an infinite length joins nothing."""
    images, merges = lengths.shape
    tree = unmade(images, merges, lengths)
    cluster = torch.arange(merges + 1, device=ends.device).repeat(images, 1)
    joins = lengths.isfinite()[:, :, None]
    for merge in range(merges):
        pair = cluster.gather(1, ends[:, merge])
        union = ((cluster == pair[:, :1]) | (cluster == pair[:, 1:])) & joins[:, merge]
        cluster.masked_fill_(union, merges + 1 + merge)
        tree.sizes[:, merge] = union.sum(1)
        tree.children[:, merge] = pair
    children = torch.where(joins, tree.children.sort(dim=2).values, -1)
    return MergeTree(children, torch.where(joins[:, :, 0], lengths, torch.inf), tree.sizes)
