"""Merge trees, and flat clusters out of them, all images at once and without a host synchronisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class MergeTree(NamedTuple):
    """The dendrogram of each image.

    children: `[B, P-1, 2]` int64, the clusters of each merge, smaller id first; ids below P are points, id P+m is the
        cluster of merge m.
    heights: `[B, P-1]` in the dtype of the data, in the order of the merges.
    sizes: `[B, P-1]` int64, points in the cluster of each merge.

    Merges that were not made (an early stop, points without part, a graph of several components) stand last, with
    children -1, height inf and size 0.
    """

    children: Tensor
    heights: Tensor
    sizes: Tensor


def unmade(images: int, merges: int, like: Tensor) -> MergeTree:
    """A tree of no merges, with heights of the dtype of `like`, on its device."""
    return MergeTree(
        torch.full((images, merges, 2), -1, device=like.device),
        torch.full((images, merges), torch.inf, dtype=like.dtype, device=like.device),
        torch.zeros(images, merges, dtype=torch.int64, device=like.device),
    )


def by_height(tree: MergeTree) -> MergeTree:
    """The same tree with its merges in the order of their heights, those of equal height in the order they had.

    No merge may lie below one of its children.
    """
    images, merges, _ = tree.children.shape
    heights, order = tree.heights.sort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(merges, device=order.device).expand_as(order))
    children = tree.children.gather(1, order[:, :, None].expand(-1, -1, 2))
    merge = children - (merges + 1)
    renumbered = merges + 1 + rank.gather(1, merge.clamp_min(0).flatten(1)).view(images, merges, 2)
    children = torch.where(merge < 0, children, renumbered).sort(dim=2).values
    return MergeTree(children, heights, tree.sizes.gather(1, order))


def first_merges(tree: MergeTree, count: Tensor) -> MergeTree:
    """The first `count` `[B]` merges of each tree; the others become unmade."""
    merges = tree.heights.shape[1]
    made = torch.arange(merges, device=count.device) < count[:, None]
    return MergeTree(
        torch.where(made[:, :, None], tree.children, -1),
        torch.where(made, tree.heights, torch.inf),
        torch.where(made, tree.sizes, 0),
    )


def cut(children: Tensor, clusters: Tensor, mask: Tensor | None = None) -> Tensor:
    """Flat clusters of each image once its first merges have left `clusters` of them.

    children: `[B, P-1, 2]` int64 as in `MergeTree`. clusters: `[B]` int64, k in [1, P] for each image; a tree with too
        few merges to come down to k keeps more. mask: `[B, P]` bool, the points that took part.
    Returns labels `[B, P]` int64, 0, 1, ... in the order of each cluster's first point, -1 where the mask is False.
    """
    return number_by_first(_cut_roots(children, clusters, mask), mask)


def _cut_roots(children: Tensor, clusters: Tensor, mask: Tensor | None = None) -> Tensor:
    """The node of the tree that each point's cluster is, `[B, P]` int64; the rest is as in `cut`."""
    images, merges, _ = children.shape
    points = merges + 1
    device = children.device
    taking_part = mask.sum(1) if mask is not None else torch.full((images,), points, device=device)
    merge = torch.arange(merges, device=device)
    done = (merge < (taking_part - clusters)[:, None])[:, :, None] & (children >= 0)  # [B, P-1, 2]
    return roots(parents(children, points, done))[:, :points]


def parents(children: Tensor, points: int, made: Tensor | None = None) -> Tensor:
    """The cluster that each node is merged into, itself by default: `[B, P + merges]` int64.

    children: `[B, merges, 2]` int64, the first merges of P points. made: `[B, merges, 2]` bool, those that count.
    """
    images, merges, _ = children.shape
    itself = torch.arange(points + merges, device=children.device).repeat(images, 1)
    merged = itself[:, points:, None].expand_as(children)
    # An unmade merge moves nothing: it points its own node to itself.
    node = children if made is None else torch.where(made, children, merged)
    return itself.scatter(1, node.flatten(1), merged.flatten(1))


class JoinedClusters(NamedTuple):
    """What the merges above a cut join, of K clusters at most.

    sides: `[B, K-1, K]` uint8, of each of the last K-1 merges the side on which it has each flat cluster: 1 and 2 for
        its first and second child, 0 where the cluster is not in it. Merges below the cut have none.
    keys: `[B, K]` int64. In the order of the keys the clusters of every merge stand together.
    """

    sides: Tensor
    keys: Tensor


def joined_clusters(children: Tensor, clusters: Tensor, most: int) -> JoinedClusters:
    """The merges of the flat clusters, numbered as `cut` does, up to the whole image.

    children: `[B, P-1, 2]` int64 of whole trees. clusters: `[B]` int64, k in [1, K] for each image. most: K, at most P
    and 63, as a key has a bit for each merge.
    """
    images, merges, _ = children.shape
    points, device = merges + 1, children.device
    parent = parents(children, points, children >= 0)
    second = pad(children[..., 1], (points, 0), value=-1)  # the second child of each node, -1 for points
    root = _cut_roots(children, clusters)
    whole = torch.full((images, most), points + merges - 1, device=device)
    node = whole.scatter(1, number_by_first(root), root)  # a cluster that is not there is the whole image: it stays
    sides = torch.zeros(images, most, most, dtype=torch.uint8, device=device)  # the last row is for what does not move
    keys = torch.zeros(images, most, dtype=torch.int64, device=device)
    for _ in range(most - 1):
        joint = parent.gather(1, node)
        moves = joint != node
        merge = torch.where(moves, joint - (2 * points - most), most - 1)
        on_second = second.gather(1, joint) == node
        sides.scatter_(1, merge[:, None], torch.where(moves, 1 + on_second.to(torch.uint8), 0)[:, None])
        keys += (moves & on_second).long() << merge
        node = joint
    return JoinedClusters(sides[:, : most - 1], keys)


def roots(parent: Tensor) -> Tensor:
    """Root of every node of a forest of `[..., nodes]` parent pointers, by pointer jumping; a root points to itself."""
    for _ in range(max(parent.shape[-1] - 1, 1).bit_length()):
        parent = parent.gather(-1, parent)
    return parent


def number_by_first(labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Renumber the labels of each row 0, 1, ... in the order of their first place.

    labels: `[B, P]` int64, any values in [0, 2P). mask: `[B, P]` bool, places to number; the others become -1.
    Returns `[B, P]` int64.
    """
    images, points = labels.shape
    place = torch.arange(points, device=labels.device).expand(images, points)
    counted = place if mask is None else torch.where(mask, place, points)
    first = torch.full((images, 2 * points), points, device=labels.device)
    first = first.scatter_reduce(1, labels, counted, "amin").gather(1, labels)  # first place of each point's label
    number = (first == place).cumsum(1) - 1
    if mask is None:
        return number.gather(1, first)
    return torch.where(mask, number.gather(1, first.clamp_max(points - 1)), -1)
