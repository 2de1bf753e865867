"""Single linkage in torch: a minimum spanning tree, whose edges in the order of their lengths are the merges (Gower and
Ross, 1969, "Minimum spanning trees and single linkage cluster analysis").

Rounds of mutual nearest neighbours would be slow here: single linkage grows one large cluster point by point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.trees import MergeTree, first_merges, roots, unmade


def single_linkage(distance: Tensor, mask: Tensor, wanted: Tensor) -> MergeTree:
    """Merge tree of each image from its distances `[B, P, P]`, which are overwritten.

    mask: `[B, P]` bool. wanted: `[B]` int64.
    """
    distance.masked_fill_(distance.isnan() | ~(mask[:, :, None] & mask[:, None, :]), torch.inf)
    edges, lengths = spanning_forest(distance)
    tree = joined_ends(edges, lengths)
    return first_merges(tree, wanted)


def spanning_forest(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Borůvka's algorithm: each component takes its shortest edge to another one, all components at once.

    Of edges of one length that with the lower ends counts as the shorter, so no cycle can close.
    Returns the ends of each edge, low * P + high, `[B, P-1]` int64, and lengths `[B, P-1]`, in their order; infinite
    ones are no edges.
    """
    images, points, _ = distance.shape
    nowhere = points * points
    point = torch.arange(points, device=distance.device).repeat(images, 1)
    edges = torch.full_like(point[:, 1:], nowhere)
    lengths = distance.new_full(edges.shape, torch.inf)
    made = torch.zeros_like(point[:, :1])
    component = point
    while True:
        named = component.to(torch.int32)  # a smaller type to compare all pairs of
        outside = distance.masked_fill(named[:, :, None] == named[:, None, :], torch.inf)
        length = outside.amin(2)
        least = torch.full_like(length, torch.inf).scatter_reduce_(1, component, length, "amin")
        image, source = (length.isfinite() & (length == least.gather(1, component))).nonzero(as_tuple=True)
        target = (outside[image, source] == length[image, source][:, None]).to(torch.uint8).argmax(1)
        edge = torch.minimum(source, target) * points + torch.maximum(source, target)
        taken = torch.full((images * points,), nowhere, device=distance.device)
        taken.scatter_reduce_(0, image * points + component[image, source], edge, "amin")
        taken = taken.view(images, points)  # by each component
        takes = taken < nowhere
        if not bool(takes.any()):
            return in_order(edges, lengths)

        low, high = (component.gather(1, end * takes) for end in (taken // points, taken % points))
        towards = torch.where(low == point, high, low)
        leads = takes & (taken.gather(1, towards) == taken) & (point < towards)  # of two that took the same edge
        new = takes & ~(leads.gather(1, towards) & (taken.gather(1, towards) == taken))
        place = (made + new.cumsum(1) - 1)[new]
        image = new.nonzero()[:, 0]
        edges[image, place], lengths[image, place] = taken[new], least[new]
        made = made + new.sum(1, keepdim=True)
        component = roots(torch.where(takes & ~leads, towards, point)).gather(1, component)


def in_order(edges: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The edges and their lengths, `[B, P-1]`, by length and, where that ties, by their ends."""
    by_ends = edges.argsort(dim=1)
    lengths, order = lengths.gather(1, by_ends).sort(dim=1, stable=True)
    return edges.gather(1, by_ends).gather(1, order), lengths


def joined_ends(edges: Tensor, lengths: Tensor) -> MergeTree:
    """The tree that joins the ends of one edge after another, by union-find on the host."""
    images, merges = lengths.shape
    tree = unmade(images, merges, lengths)._replace(heights=lengths)
    real = lengths.isfinite().sum(1).tolist()
    for image, codes in enumerate(edges.tolist()):
        parent = list(range(2 * merges + 1))
        size = [1] * (merges + 1)
        children = []
        for code in codes[: real[image]]:
            pair = []
            for node in divmod(code, merges + 1):
                while parent[node] != node:
                    parent[node] = parent[parent[node]]
                    node = parent[node]
                pair.append(node)
            parent[pair[0]] = parent[pair[1]] = len(size)
            size.append(size[pair[0]] + size[pair[1]])
            children.append(sorted(pair))
        if children:
            tree.children[image, : len(children)] = torch.tensor(children)
            tree.sizes[image, : len(children)] = torch.tensor(size[merges + 1 :])
    return tree
