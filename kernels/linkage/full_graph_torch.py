"""Agglomerative clustering on the full graph in batched torch operations: rounds of reciprocal nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.linkage.single_torch import single_linkage
from ovsr_gpu.kernels.trees import MergeTree, by_height, first_merges, unmade


def rounds(distance: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """Merge tree of each image from its distances.

    distance: `[B, P, P]`, symmetric up to its diagonal, squared for Ward; it is overwritten.
    mask: `[B, P]` bool, the points that take part. wanted: `[B]` int64, merges of each image.
    """
    if method == "single":
        return single_linkage(distance, mask, wanted)
    images, points = mask.shape
    device = distance.device
    tree = unmade(images, points - 1, distance)
    made = torch.zeros(images, 1, dtype=torch.int64, device=device)

    # Each cluster has a slot; those that live stand first, in the order of their first points.
    live, order = mask.to(torch.uint8).sort(dim=1, descending=True, stable=True)
    live, cluster, origin = live.bool(), order, order
    if not bool(mask.all()):
        distance = distance.gather(1, order[:, :, None].expand(-1, -1, points))
        distance = distance.gather(2, order[:, None, :].expand(-1, points, -1))
    if bool(distance.sum().isnan()):
        distance.masked_fill_(distance.isnan(), torch.inf)
    size = live.to(distance.dtype)
    height = torch.zeros_like(size)
    _close(distance, live)

    while distance.shape[1] > 1:
        slots = torch.arange(distance.shape[1], device=device)
        nearest, apart = _nearest(distance, origin)
        # Unions only come to lie farther away, so a merge not above the least distance left is one of the lowest.
        final = (tree.heights <= apart.amin(1, keepdim=True)).sum(1)
        mutual = (nearest.gather(1, nearest) == slots) & apart.isfinite() & (final < wanted)[:, None]
        leads = mutual & (slots < nearest)
        if not bool(leads.any()):
            break

        # Rounding must not put a union below its parts.
        height = torch.where(leads, torch.maximum(apart, torch.maximum(height, height.gather(1, nearest))), height)
        place = made + leads.cumsum(1) - 1
        joined_size = size + size.gather(1, nearest)
        image, slot = leads.nonzero(as_tuple=True)
        row, partner = place[image, slot], nearest[image, slot]
        tree.children[image, row] = torch.stack([cluster[image, slot], cluster[image, partner]], dim=1)
        tree.heights[image, row] = height[image, slot]
        tree.sizes[image, row] = joined_size[image, slot].to(torch.int64)
        made = made + leads.sum(1, keepdim=True)

        live, keep = (live & (leads | ~mutual)).to(torch.uint8).sort(dim=1, descending=True, stable=True)
        width = int(live.sum(1).max())
        live, keep = live[:, :width].bool(), keep[:, :width]
        image, slot = leads.gather(1, keep).nonzero(as_tuple=True)
        pairs = _Pairs(image, slot, keep, nearest, size, apart)
        cluster = torch.where(leads, points + place, cluster).gather(1, keep)
        merged_size = torch.where(leads, joined_size, size).gather(1, keep)
        # The matrix is symmetric: joining the rows, and those of its transpose, joins the columns too.
        distance = pairs.join(distance, size, method)
        distance = pairs.join(distance.mT, merged_size, method)
        pairs.mirror(distance)
        size, height, origin = merged_size * live, height.gather(1, keep), origin.gather(1, keep)
        _close(distance, live)

    tree = by_height(tree)
    if method == "ward":
        tree = tree._replace(heights=tree.heights.sqrt())
    return first_merges(tree, wanted)


def _close(distance: Tensor, live: Tensor) -> None:
    """Make the diagonal, and the rows and columns of slots that do not live, infinitely far."""
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    image, slot = (~live).nonzero(as_tuple=True)
    if len(image):
        distance[image, slot] = torch.inf
        distance[image, :, slot] = torch.inf


def _nearest(distance: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest slot of each slot (itself where there is none) and its distance, `[B, K]`.

    Of equally near ones it is the one with the least i xor j, i and j being the first points of the two, `origin`
    `[B, K]`. (distance, i xor j) is symmetric and differs between all pairs of a row, so mutual nearest neighbours
    always exist. Where everything ties, as in areas of one colour, xor pairs up all neighbours of a round, where "the
    first one" would join a single pair.
    """
    slots = torch.arange(distance.shape[1], device=distance.device)
    least = distance.amin(2)
    first = origin.to(torch.int32)  # a smaller type for all pairs
    gap = first[:, :, None] ^ first[:, None, :]
    gap.masked_fill_(distance != least[:, :, None], torch.iinfo(torch.int32).max)
    neighbour = (first ^ gap.amin(2)).to(torch.int64)
    slot_of = torch.zeros(len(origin), int(origin.max()) + 1, dtype=torch.int64, device=distance.device)
    slot_of.scatter_(1, origin, slots.expand_as(origin))
    reachable = least.isfinite()
    return torch.where(reachable, slot_of.gather(1, neighbour * reachable), slots), least


class _Pairs:
    """The pairs of a round, flat over the images, and the slots `keep` `[B, K']` that are left after it."""

    def __init__(self, image: Tensor, slot: Tensor, keep: Tensor, nearest: Tensor, size: Tensor, apart: Tensor) -> None:
        self.image, self.slot, self.keep = image, slot, keep
        self.slots = size.shape[1]
        first = keep[image, slot]
        second = nearest[image, first]
        self.first, self.second = image * self.slots + first, image * self.slots + second
        self.size_a, self.size_b = size[image, first][:, None], size[image, second][:, None]
        self.apart = apart[image, first][:, None]

    def join(self, matrix: Tensor, others: Tensor, method: str) -> Tensor:
        """Rows `[B, K', W]` of the slots that are left out of `[B, K, W]`, pairs joined; others: sizes `[B, W]`."""
        rows = matrix.flatten(0, 1)
        a, b = rows.index_select(0, self.first), rows.index_select(0, self.second)
        images, left = self.keep.shape
        every = self.keep + self.slots * torch.arange(images, device=rows.device)[:, None]
        joined = rows.index_select(0, every.flatten())
        union = lance_williams(a, b, self.apart, self.size_a, self.size_b, others[self.image], method)
        joined.index_copy_(0, self.image * left + self.slot, union)
        return joined.view(images, left, -1)

    def mirror(self, matrix: Tensor) -> None:
        """Give the distance between two unions, which two orders of joining round differently, one value: that of
        joining the lower pair first."""
        row = matrix[self.image, self.slot]
        joined = torch.zeros_like(self.keep, dtype=torch.bool)
        joined[self.image, self.slot] = True
        behind = joined[self.image] & (torch.arange(matrix.shape[2], device=matrix.device) > self.slot[:, None])
        matrix[self.image, self.slot] = torch.where(behind, matrix[self.image, :, self.slot], row)


def lance_williams(
    a: Tensor, b: Tensor, apart: Tensor, size_a: Tensor, size_b: Tensor, size_x: Tensor, method: str
) -> Tensor:
    """Distance of the union of clusters a and b to others x from their own, `a` and `b`, which are overwritten."""
    if method == "complete":
        return torch.maximum(a, b)
    if method == "weighted":
        return a.add_(b).mul_(0.5)
    if method == "average":
        return a.mul_(size_a).add_(b.mul_(size_b)).div_(size_a + size_b)
    joined = (a + b).sub_(apart).mul_(size_x).add_(a.mul_(size_a)).add_(b.mul_(size_b))
    return joined.div_(size_x + (size_a + size_b))


def distances(points: Tensor, method: str) -> Tensor:
    """Distances `[B, P, P]` between the points `[B, P, R]` of each image, squared for Ward."""
    euclidean = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return euclidean.square_() if method == "ward" else euclidean
