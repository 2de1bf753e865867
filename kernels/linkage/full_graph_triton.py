"""Agglomerative clustering on the full graph as Triton kernels: rounds of reciprocal nearest neighbours, no host in
between.

One program grows the tree of one image over its matrix of distances, of which a union overwrites the rows and columns
of its halves in place. Each round
  1. finds the pairs of mutual nearest neighbours and writes their merges,
  2. writes the distances of each union to all others (Lance and Williams), and
  3. looks again for the neighbours of the unions and of those whose neighbour was merged.
A cluster lives in the slot of its first point. Threads of a program see each other's stores after a barrier only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ovsr_gpu.kernels.linkage.ieee_triton import divide, square_root
from ovsr_gpu.kernels.linkage.single_triton import single_linkage
from ovsr_gpu.kernels.trees import MergeTree, by_height, first_merges, unmade

LEADS, TAKEN = tl.constexpr(1), tl.constexpr(2)
"""Role of a slot in a round: it keeps the union of a pair, or its cluster goes into one."""


@triton.jit
def point_distances(points, distance, P, R, SQUARED: tl.constexpr, TILE: tl.constexpr):
    """Tile of the distances between the points of an image; points: `[B, R, P]`, distance: `[B, P, P]`."""
    image = tl.program_id(0).to(tl.int64)
    points += image * R * P
    distance += image * P * P
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = tl.program_id(2) * TILE + tl.arange(0, TILE)
    total = tl.zeros([TILE, TILE], dtype=points.dtype.element_ty)
    for r in range(R):
        a = tl.load(points + r * P + row, mask=row < P, other=0.0)
        b = tl.load(points + r * P + column, mask=column < P, other=0.0)
        gap = a[:, None] - b[None, :]
        total += gap * gap
    if not SQUARED:
        total = square_root(total)
    inside = (row < P)[:, None] & (column < P)[None, :]
    tl.store(distance + row.to(tl.int64)[:, None] * P + column[None, :], total, mask=inside)


@triton.jit
def nearest_slots(distance, order, live, row, wanted, near, apart, P, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Store the nearest of the `live` slots in `order`, and its distance, for the slots `row` `[ROWS]`.

    Of equally near ones it is the one with the least i xor j. A slot that has none is its own nearest.
    """
    kind: tl.constexpr = distance.dtype.element_ty
    best = tl.full([ROWS, COLUMNS], float("inf"), dtype=kind)
    best_gap = tl.full([ROWS, COLUMNS], 0x7FFFFFFF, dtype=tl.int32)
    for start in range(0, live, COLUMNS):
        lane = start + tl.arange(0, COLUMNS)
        column = tl.load(order + lane, mask=lane < live, other=0)
        use = wanted[:, None] & (lane < live)[None, :] & (row[:, None] != column[None, :])
        far = tl.load(distance + row.to(tl.int64)[:, None] * P + column[None, :], mask=use, other=float("inf"))
        gap = row[:, None] ^ column[None, :]
        closer = (far < best) | ((far == best) & (gap < best_gap))
        best = tl.where(closer, far, best)
        best_gap = tl.where(closer, gap, best_gap)
    least = tl.min(best, axis=1)
    gap = tl.min(tl.where(best == least[:, None], best_gap, 0x7FFFFFFF), axis=1)
    tl.store(near + row, tl.where(least < float("inf"), row ^ gap, row), mask=wanted)
    tl.store(apart + row, least, mask=wanted)


@triton.jit
def first_neighbours(distance, order, live, near, apart, P, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The nearest slots of all rows, before the first round."""
    image = tl.program_id(0).to(tl.int64)
    count = tl.load(live + image)
    order += image * 2 * P
    lane = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row = tl.load(order + lane, mask=lane < count, other=0)
    distance += image * P * P
    nearest_slots(distance, order, count, row, lane < count, near + image * P, apart + image * P, P, ROWS, COLUMNS)


@triton.jit
def lance_williams(a, b, apart, size_a, size_b, size_x, METHOD: tl.constexpr):
    """Distance of the union of a and b to x from their own."""
    if METHOD == "complete":
        return tl.maximum(a, b)
    elif METHOD == "weighted":
        return (a + b) * 0.5
    elif METHOD == "average":
        return divide(size_a * a + size_b * b, size_a + size_b)
    else:
        joined = (a + b - apart) * size_x + a * size_a + b * size_b
        return divide(joined, size_x + (size_a + size_b))


@triton.jit
def merges_upto(heights, made, height, BLOCK: tl.constexpr):
    """Number of the merges made so far that are not above a height."""
    count = 0
    for start in range(0, made, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        low = tl.load(heights + lane, mask=lane < made, other=float("inf")) <= height
        count += tl.sum((low & (lane < made)).to(tl.int32))
    return count


@triton.jit
def write_pairs(
    order, live, near, apart, size, cluster, height, role, first, second, children, heights, sizes, made, merging,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the merges of mutual nearest neighbours among the first `merging` slots, all or none of the `live` ones.

    Their slots go to `first` and `second`. Returns their number.
    """
    pairs = 0
    for start in range(0, live, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        valid = lane < live
        slot = tl.load(order + lane, mask=valid, other=0)
        other = tl.load(near + slot, mask=valid, other=0)
        back = tl.load(near + other, mask=valid, other=-1)
        mutual = (lane < merging) & (other != slot) & (back == slot)
        leads = mutual & (slot < other)
        tl.store(role + slot, tl.where(leads, LEADS, tl.where(mutual, TAKEN, 0)), mask=valid)

        rank = pairs + tl.cumsum(leads.to(tl.int32), 0) - 1
        merge = made + rank
        parts = tl.maximum(tl.load(height + slot, mask=leads), tl.load(height + other, mask=leads))
        # Rounding must not put a union below its parts.
        tl.store(heights + merge, tl.maximum(tl.load(apart + slot, mask=leads), parts), mask=leads)
        joined = tl.load(size + slot, mask=leads) + tl.load(size + other, mask=leads)
        tl.store(sizes + merge, joined.to(tl.int64), mask=leads)
        tl.store(children + 2 * merge, tl.load(cluster + slot, mask=leads).to(tl.int64), mask=leads)
        tl.store(children + 2 * merge + 1, tl.load(cluster + other, mask=leads).to(tl.int64), mask=leads)
        tl.store(first + rank, slot, mask=leads)
        tl.store(second + rank, other, mask=leads)
        pairs += tl.sum(leads.to(tl.int32))
    return pairs


@triton.jit
def write_unions(
    distance, order, live, near, apart, size, role, stale, first, second, pairs, P,
    METHOD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the distances of each pair's union to the slots that are left, into its row and column.

    The four distances between two pairs are read, and that of their unions written, by the lower pair alone.
    """
    for start in range(0, pairs, ROWS):
        pair = start + tl.arange(0, ROWS)
        a = tl.load(first + pair, mask=pair < pairs, other=0)
        b = tl.load(second + pair, mask=pair < pairs, other=0)
        size_a = tl.load(size + a)[:, None]
        size_b = tl.load(size + b)[:, None]
        between = tl.load(apart + a)[:, None]
        row_a, row_b = distance + a.to(tl.int64)[:, None] * P, distance + b.to(tl.int64)[:, None] * P
        for begin in range(0, live, COLUMNS):
            lane = begin + tl.arange(0, COLUMNS)
            x = tl.load(order + lane, mask=lane < live, other=0)
            leads = tl.load(role + x) == LEADS
            y = tl.load(near + x)
            size_x = tl.load(size + x)[None, :]
            use = (pair < pairs)[:, None] & (lane < live)[None, :]
            use = use & tl.where(leads[None, :], a[:, None] < x[None, :], True)
            far = lance_williams(
                tl.load(row_a + x[None, :], mask=use, other=0.0), tl.load(row_b + x[None, :], mask=use, other=0.0),
                between, size_a, size_b, size_x, METHOD,
            )  # fmt: skip
            both = use & leads[None, :]
            size_y = tl.load(size + y)[None, :]
            far_y = lance_williams(
                tl.load(row_a + y[None, :], mask=both, other=0.0), tl.load(row_b + y[None, :], mask=both, other=0.0),
                between, size_a, size_b, size_y, METHOD,
            )  # fmt: skip
            apart_x = tl.load(apart + x)[None, :]
            unions = lance_williams(far, far_y, apart_x, size_x, size_y, size_a + size_b, METHOD)
            far = tl.where(leads[None, :], unions, far)
            tl.store(row_a + x[None, :], far, mask=use)
            tl.store(distance + x.to(tl.int64)[None, :] * P + a[:, None], far, mask=use)
            # A union lies no nearer than its parts did, but as near where distances tie or are rounded.
            tl.store(stale + x[None, :] + 0 * a[:, None], 1, mask=use & (far <= apart_x))


@triton.jit
def grow_trees(
    distance, order, live, near, apart, size, cluster, height, role, stale, first, second,
    children, heights, sizes, wanted, P,
    METHOD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All rounds of one image. order: `[B, 2, P]`, the live slots of this round and, in turn, of the next."""
    image = tl.program_id(0).to(tl.int64)
    distance += image * P * P
    order += image * 2 * P
    near += image * P
    apart += image * P
    size += image * P
    cluster += image * P
    height += image * P
    role += image * P
    stale += image * P
    first += image * P
    second += image * P
    children += image * 2 * (P - 1)
    heights += image * (P - 1)
    sizes += image * (P - 1)

    count = tl.load(live + image)
    want = tl.load(wanted + image)
    now = 0
    made = 0
    pairs = 1
    while pairs > 0:
        # Unions only come to lie farther away, so a merge not above the least distance left is one of the lowest.
        floor = tl.full([BLOCK], float("inf"), dtype=distance.dtype.element_ty)
        for start in range(0, count, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            slot = tl.load(order + now + lane, mask=lane < count, other=0)
            floor = tl.minimum(floor, tl.load(apart + slot, mask=lane < count, other=float("inf")))
        least = tl.min(floor)
        final = merges_upto(heights, made, least, BLOCK)

        pairs = write_pairs(
            order + now, count, near, apart, size, cluster, height, role, first, second, children, heights, sizes,
            made, tl.where(final < want, count, 0), BLOCK,
        )  # fmt: skip
        tl.debug_barrier()

        after = P - now
        left = 0
        for start in range(0, count, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            slot = tl.load(order + now + lane, mask=lane < count, other=0)
            stays = (lane < count) & (tl.load(role + slot, mask=lane < count, other=0) != TAKEN)
            tl.store(order + after + left + tl.cumsum(stays.to(tl.int32), 0) - 1, slot, mask=stays)
            left += tl.sum(stays.to(tl.int32))
        tl.debug_barrier()

        write_unions(
            distance, order + after, left, near, apart, size, role, stale, first, second, pairs, P,
            METHOD, ROWS, COLUMNS,
        )  # fmt: skip
        tl.debug_barrier()

        for start in range(0, pairs, BLOCK):
            pair = start + tl.arange(0, BLOCK)
            valid = pair < pairs
            a = tl.load(first + pair, mask=valid, other=0)
            b = tl.load(second + pair, mask=valid, other=0)
            tl.store(size + a, tl.load(size + a, mask=valid) + tl.load(size + b, mask=valid), mask=valid)
            tl.store(cluster + a, P + made + pair, mask=valid)
            tl.store(height + a, tl.load(heights + made + pair, mask=valid), mask=valid)
        # `first` now takes the slots whose neighbours are to be looked for again.
        tl.debug_barrier()
        again = 0
        for start in range(0, left, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            valid = lane < left
            slot = tl.load(order + after + lane, mask=valid, other=0)
            merged = tl.load(role + tl.load(near + slot, mask=valid, other=0), mask=valid, other=0) != 0
            look = valid & (merged | (tl.load(stale + slot, mask=valid, other=0) != 0))
            tl.store(stale + slot, 0, mask=look)
            tl.store(first + again + tl.cumsum(look.to(tl.int32), 0) - 1, slot, mask=look)
            again += tl.sum(look.to(tl.int32))
        tl.debug_barrier()
        for start in range(0, again, ROWS):
            lane = start + tl.arange(0, ROWS)
            row = tl.load(first + lane, mask=lane < again, other=0)
            nearest_slots(distance, order + after, left, row, lane < again, near, apart, P, ROWS, COLUMNS)
        tl.debug_barrier()
        made += pairs
        count = left
        now = after


TILE = 32
TUNING = {"ROWS": 8, "COLUMNS": 256, "num_warps": 16, "enable_fp_fusion": False}
BLOCK = 512


def rounds(distance: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """Merge tree of each image from its distances, as the torch rounds make it."""
    if method == "single":
        return single_linkage(distance, mask, wanted)
    images, points = mask.shape
    device = distance.device
    tree = unmade(images, points - 1, distance)
    live = mask.sum(1, dtype=torch.int32)
    place = torch.arange(points, dtype=torch.int32, device=device)
    order = torch.zeros(images, 2, points, dtype=torch.int32, device=device)
    order[:, 0] = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    near = place.repeat(images, 1)
    apart = torch.full_like(near, torch.inf, dtype=distance.dtype)
    size, height = torch.ones_like(apart), torch.zeros_like(apart)
    role, stale, first, second = (torch.zeros_like(near) for _ in range(4))

    rows = triton.cdiv(points, TUNING["ROWS"])
    first_neighbours[images, rows](distance, order, live, near, apart, points, **TUNING)
    grow_trees[(images,)](
        distance, order, live, near, apart, size, place.repeat(images, 1), height, role, stale, first, second,
        tree.children, tree.heights, tree.sizes, wanted, points,
        METHOD=method, BLOCK=BLOCK, **TUNING,
    )  # fmt: skip
    tree = by_height(tree)
    if method == "ward":
        tree = tree._replace(heights=tree.heights.sqrt())
    return first_merges(tree, wanted)


def distances(points: Tensor, method: str) -> Tensor:
    """Distances `[B, P, P]` between the points `[B, P, R]` of each image, squared for Ward."""
    images, count, rank = points.shape
    distance = points.new_empty(images, count, count)
    tiles = triton.cdiv(count, TILE)
    point_distances[images, tiles, tiles](
        points.mT.contiguous(), distance, count, rank, SQUARED=method == "ward", TILE=TILE, enable_fp_fusion=False
    )
    return distance
