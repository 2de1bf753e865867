"""Agglomerative clustering on the full graph in batched torch operations: rounds of reciprocal nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.linkage.single_torch import single_linkage
from ovsr_gpu.kernels.trees import MergeTree, by_height, first_merges, unmade

_WHOLE = {torch.float32: torch.int32, torch.float64: torch.int64}
"""The whole numbers that are as wide."""
_LEAST_USE = 0.7
"""Share of its slots that a matrix must use; below it, it is laid out anew without the others."""
_SMALL = 64
"""Slots of a matrix that costs little, whatever share of it is used."""


def rounds(distance: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """Merge tree of each image from its distances.

    distance: `[B, P, P]`, symmetric up to its diagonal, squared for Ward; it is overwritten.
    mask: `[B, P]` bool, the points that take part. wanted: `[B]` int64, merges of each image.
    """
    if method == "single":
        return single_linkage(distance, mask, wanted)
    tree = by_height(_merges(distance, method, mask, wanted))
    if method == "ward":
        tree = tree._replace(heights=tree.heights.sqrt())
    return first_merges(tree, wanted)


@torch.inference_mode()  # what autograd keeps of each of the many small operations costs a fifth of the time
def _merges(distance: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """The merges in the order of the rounds; at least the lowest `wanted` of each image."""
    images, points = mask.shape
    stops_early = bool((wanted < mask.sum(1) - 1).any())
    tree = unmade(images, points, distance)  # one more than there are merges, for what padding writes
    made = torch.zeros_like(wanted)[:, None]
    clusters = _Clusters(distance, mask)
    while True:
        leads = clusters.leads()
        if stops_early:
            # Unions only come to lie farther away, so a merge not above the least distance left is one of the lowest.
            leads &= ((tree.heights <= clusters.least_apart()).sum(1) < wanted)[:, None]
        row = leads.flatten().nonzero()[:, 0]
        if not len(row):
            return MergeTree(*(part[:, : points - 1] for part in tree))
        count = leads.sum(1, keepdim=True)
        if images > 1:
            clusters.dead.masked_fill_(count == 0, torch.inf)  # of finished images, where padding writes what it will
        first, place = _padded(row, count, clusters.start, made, behind=points - 1)
        children, heights, sizes = clusters.merge(first, points + place, method)
        tree.children.scatter_(1, place[:, :, None].expand(-1, -1, 2), children)
        tree.heights.scatter_(1, place, heights)
        tree.sizes.scatter_(1, place, sizes)
        made += count


def _padded(row: Tensor, count: Tensor, start: Tensor, made: Tensor, behind: int) -> tuple[Tensor, Tensor]:
    """The rows of the pairs, given one image after another, as `[B, most]`, and their places in the tree.

    An image's last pair is repeated: it will write the same again. An image without any is finished: its first row,
    `start`, stands in, and writes to the place `behind` its tree. count, start, made: `[B, 1]`.
    """
    most = int(count.max())
    number = torch.arange(most, device=row.device)
    if len(row) == most * len(count):
        return row.view(-1, most), made + number
    number = torch.minimum(number, count - 1)
    place = (count.cumsum(0) - count + number).clamp(0, len(row) - 1)
    some = count > 0
    return torch.where(some, row[place], start), torch.where(some, made + number, behind)


class _Clusters:
    """The clusters of all images, each in the slot of its first point, and their distances.

    Slot s of image b is row b * K + s of what is kept about each cluster and of the distances `[B * K, K]`. A union
    takes the slot of the lower of its halves. That of the other is dead, until the slots that live are moved together.
    """

    def __init__(self, distance: Tensor, mask: Tensor) -> None:
        self.images, self.points = mask.shape
        if bool(distance.sum().isnan()):
            distance.masked_fill_(distance.isnan(), torch.inf)
        distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        self.distance = distance.flatten(0, 1)
        # For what is as large as the matrix: new memory costs more than the arithmetic on it.
        self.scratch = distance.new_empty(2, distance.numel())
        self._lay_out(self.points)
        self.cluster = self.row % self.points
        self.first_point = self.cluster.to(_WHOLE[distance.dtype], copy=True)
        self.row_of = self.row.clone()  # by image and first point
        self.nearest = self.row.clone()
        self.dead = torch.zeros_like(distance[:, 0]).masked_fill_(~mask, torch.inf)  # [B, K]: 0 or inf
        self._keep_state(distance.new_tensor([[1.0], [0.0], [torch.inf]]).repeat(1, len(self.row)))
        self._look_again(mask.flatten().nonzero()[:, 0])

    def _lay_out(self, slots: int) -> None:
        self.slots = slots
        self.merged = 0
        self.row = torch.arange(self.images * slots, device=self.distance.device)
        self.start = self.row[::slots, None]  # [B, 1]
        self.some_rows, self.other_rows = self.scratch[:, : len(self.row) * slots].view(2, -1, slots)

    def _keep_state(self, state: Tensor) -> None:
        """state: `[3, B * K]`."""
        self.state = state
        self.size, self.height, self.apart = state

    def leads(self) -> Tensor:
        """The lower halves of the pairs that are each other's nearest, `[B, K]` bool."""
        mutual = self.nearest.index_select(0, self.nearest) == self.row
        return (mutual & (self.row < self.nearest)).view(self.images, -1)

    def least_apart(self) -> Tensor:
        return (self.apart.view(self.images, -1) + self.dead).amin(1, keepdim=True)

    def merge(self, first: Tensor, cluster: Tensor, method: str) -> tuple[Tensor, Tensor, Tensor]:
        """Merge those in the rows `first` `[B, pairs]` with their nearest into clusters of the given numbers.

        Returns the children `[B, pairs, 2]`, heights and sizes of the unions.
        """
        images, pairs = first.shape
        a = first.flatten()
        b = self.nearest.index_select(0, a)
        halves = torch.cat([a, b])
        state = self.state.index_select(1, halves).view(6, images, pairs)
        size_a, size_b, height_a, height_b, apart, _ = state.unbind()
        size = size_a + size_b
        # Rounding must not put a union below its parts.
        height = torch.maximum(apart, torch.maximum(height_a, height_b))
        children = self.cluster.index_select(0, halves).view(2, images, pairs).permute(1, 2, 0)

        union = self._unions(halves, apart, size_a, size_b, method)
        self.distance.index_copy_(0, a, union.flatten(0, 1))
        slot = (first - self.start)[:, None, :].expand(-1, self.slots, -1)
        self.distance.view(images, self.slots, -1).scatter_(2, slot, union.mT)
        # A union lies no nearer than its parts did, but as near where distances tie or are rounded.
        again = union.amin(1).flatten() <= self.apart
        again |= torch.zeros_like(again).index_fill_(0, halves, True).index_select(0, self.nearest)
        self.size.index_copy_(0, a, size.flatten())
        self.height.index_copy_(0, a, height.flatten())
        self.cluster.index_copy_(0, a, cluster.flatten())
        self.nearest.index_copy_(0, b, b)
        self.dead.view(-1).index_fill_(0, b, torch.inf)
        again &= self.dead.flatten() == 0
        self._look_again(again.nonzero()[:, 0])
        self.merged += pairs
        self._move_together()
        return children, height, size.to(torch.int64)

    def _unions(self, halves: Tensor, apart: Tensor, size_a: Tensor, size_b: Tensor, method: str) -> Tensor:
        """Distances `[B, pairs, K]` of the unions to the clusters of all slots, and to each other in their own."""
        images, pairs = apart.shape
        a, b = self._rows(halves).view(2, images, pairs, -1)
        joined = self.other_rows[: images * pairs].view(images, pairs, -1)
        size_a, size_b = size_a[:, :, None], size_b[:, :, None]
        size_x = self.size.view(images, 1, -1)
        lance_williams(a, b, apart[:, :, None], size_a, size_b, size_x, method, out=joined)

        # The distance between two unions is that of joining the lower pair first, so that it is the same from both.
        row = halves.view(2, images, 1, pairs)
        slot = (row - self.start[:, None]).expand(-1, -1, pairs, -1)
        if pairs == 1:
            return joined.scatter_(2, slot[0], torch.inf)
        to_a, to_b = joined.gather(2, slot[0]), joined.gather(2, slot[1])
        between = torch.empty_like(to_a)
        lance_williams(to_a, to_b, apart[:, None, :], size_a.mT, size_b.mT, size_a + size_b, method, out=between)
        number = torch.arange(pairs, device=row.device)
        between = torch.where(number[:, None] < number, between, between.mT)
        between.masked_fill_(row[0].mT == row[0], torch.inf)
        return joined.scatter_(2, slot[0], between)

    def _look_again(self, rows: Tensor) -> None:
        """Find the nearest of the clusters in `rows` `[n]`: themselves where there is none.

        Of equally near ones it is the one with the least i xor j, i and j being the first points of the two.
        (distance, i xor j) is symmetric and differs between all pairs of a row, so mutual nearest neighbours always
        exist. Where everything ties, as in areas of one colour, xor pairs up all neighbours of a round, where "the
        first one" would join a single pair.
        """
        image = rows // self.slots if self.images > 1 else 0
        far, scratch = self._rows(rows), self.other_rows[: len(rows)]
        far += self._of_image(self.dead, image, scratch)
        least = far.amin(1)
        first_point = self.first_point.index_select(0, rows)
        gap = scratch.view(first_point.dtype)
        others = self._of_image(self.first_point.view(self.images, -1), image, gap)
        torch.bitwise_xor(others, first_point[:, None], out=gap)
        # The bits of 1.0 as a whole number lie above all gaps, those of 0.0 are 0.
        gap |= far.ne_(least[:, None]).view(gap.dtype)
        neighbour = (first_point ^ gap.amin(1)).to(torch.int64) + image * self.points
        self.nearest.index_copy_(0, rows, self.row_of.index_select(0, neighbour))
        self.apart.index_copy_(0, rows, least)

    def _rows(self, rows: Tensor) -> Tensor:
        """Distances `[n, K]` of the clusters in `rows` `[n]`."""
        return torch.index_select(self.distance, 0, rows, out=self.some_rows[: len(rows)])

    @staticmethod
    def _of_image(rows: Tensor, image: Tensor | int, out: Tensor) -> Tensor:
        """The row of `[B, K]` that belongs to each `image` `[n]`: `[n, K]`, or `[1, K]` where there is one image."""
        return torch.index_select(rows, 0, image, out=out) if isinstance(image, Tensor) else rows

    def _move_together(self) -> None:
        """Lay everything out anew where many slots are dead."""
        if self.slots <= _SMALL or self.slots - self.merged > _LEAST_USE * self.slots:
            return
        live = self.dead == 0
        most = int(live.sum(1).max())
        if most > _LEAST_USE * self.slots:
            return
        slot = live.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :most]
        row = (slot + self.start).flatten()
        columns = slot[:, None, :].expand(-1, most, -1)
        self.distance = self._rows(row).view(self.images, most, -1).gather(2, columns).flatten(0, 1)
        self.dead = self.dead.gather(1, slot)
        self._keep_state(self.state.index_select(1, row))
        self.cluster, self.first_point = self.cluster[row], self.first_point[row]
        moved = self.row.new_zeros(len(self.row))
        self._lay_out(most)
        moved[row] = self.row
        self.nearest = moved[self.nearest[row]]
        self.row_of[self.first_point + self.row // most * self.points] = self.row


def lance_williams(
    a: Tensor, b: Tensor, apart: Tensor, size_a: Tensor, size_b: Tensor, size_x: Tensor, method: str, out: Tensor
) -> None:
    """Write to `out` the distance of the union of clusters a and b to others x, from their own distances `a` and `b`
    to those, which are overwritten."""
    if method == "complete":
        torch.maximum(a, b, out=out)
    elif method == "weighted":
        torch.add(a, b, out=out).mul_(0.5)
    elif method == "average":
        torch.add(a.mul_(size_a), b.mul_(size_b), out=out).div_(size_a + size_b)
    else:
        torch.add(a, b, out=out).sub_(apart).mul_(size_x).add_(a.mul_(size_a)).add_(b.mul_(size_b))
        out.div_(size_x + (size_a + size_b))


def distances(points: Tensor, method: str) -> Tensor:
    """Distances `[B, P, P]` between the points `[B, P, R]` of each image, squared for Ward."""
    euclidean = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return euclidean.square_() if method == "ward" else euclidean
