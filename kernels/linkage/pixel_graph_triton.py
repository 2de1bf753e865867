"""Agglomerative clustering on a graph as a Triton kernel: scikit-learn's greedy order, no host in between.

One program grows the tree of one image. Each round
  1. finds the nearest edge of every live cluster, and the pairs of clusters that are nearest to each other,
  2. finds the key up to which these pairs are the next merges, and makes those, and
  3. leads the edges of the merged clusters to their unions.
README.md beside this says why that is exact. Threads of a program see each other's stores after a barrier only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ovsr_gpu.kernels.linkage.full_graph_triton import merges_upto
from ovsr_gpu.kernels.linkage.greedy_order_triton import (
    LAST,
    average_limit,
    find_nearest,
    find_pairs,
    ids_of,
    ward_cost,
    ward_limit,
)
from ovsr_gpu.kernels.linkage.ieee_triton import divide
from ovsr_gpu.kernels.trees import MergeTree, by_height, first_merges, unmade


@triton.jit
def start_edges(ends, given, mask, u_of, v_of, weight_of, total, size, E, R, WARD: tl.constexpr, BLOCK: tl.constexpr):
    """Lay out the edges whose ends take part, with their weights; returns their number."""
    edges = 0
    for start in range(0, E, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        u = tl.load(ends + 2 * lane, mask=lane < E, other=0).to(tl.int32)
        v = tl.load(ends + 2 * lane + 1, mask=lane < E, other=0).to(tl.int32)
        use = (lane < E) & (u != v)
        use = use & (tl.load(mask + u, mask=use, other=0) != 0) & (tl.load(mask + v, mask=use, other=0) != 0)
        if WARD:
            alone = tl.full([BLOCK], -1, dtype=tl.int32)
            weight = ward_cost(total, size, u, alone, v, alone, R, use)
        else:
            weight = tl.load(given + lane, mask=use, other=float("inf"))
        use = use & (weight < float("inf"))
        place = edges + tl.cumsum(use.to(tl.int32), 0) - 1
        tl.store(u_of + place, u, mask=use)
        tl.store(v_of + place, v, mask=use)
        tl.store(weight_of + place, weight, mask=use)
        edges += tl.sum(use.to(tl.int32))
    return edges


@triton.jit
def final_merges(weight_of, edges, heights, made, BLOCK: tl.constexpr):
    """Number of the merges made so far that are among the lowest: those not above the least edge left."""
    least = tl.full([BLOCK], float("inf"), dtype=weight_of.dtype.element_ty)
    for start in range(0, edges, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        least = tl.minimum(least, tl.load(weight_of + lane, mask=lane < edges, other=float("inf")))
    return merges_upto(heights, made, tl.min(least), BLOCK)


@triton.jit
def merge_pairs(
    first, second, pair_weight, pairs, limit, limit_ids, left, made,
    into, total, size, children, heights, sizes, P, R,
    WARD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Make the merges up to the limit, at most `left`, numbered in their order; returns their number."""
    merges = 0
    for start in range(0, pairs, ROWS):
        pair = start + tl.arange(0, ROWS)
        valid = pair < pairs
        a, b = tl.load(first + pair, mask=valid, other=0), tl.load(second + pair, mask=valid, other=0)
        weight = tl.load(pair_weight + pair, mask=valid, other=float("inf"))
        ids = ids_of(a, b)
        before = tl.zeros([ROWS], dtype=tl.int32)
        for begin in range(0, pairs, COLUMNS):
            lane = begin + tl.arange(0, COLUMNS)
            w = tl.load(pair_weight + lane, mask=lane < pairs, other=float("inf"))
            i = ids_of(
                tl.load(first + lane, mask=lane < pairs, other=0), tl.load(second + lane, mask=lane < pairs, other=0)
            )
            earlier = (w[None, :] < weight[:, None]) | ((w[None, :] == weight[:, None]) & (i[None, :] < ids[:, None]))
            before += tl.sum((earlier & (lane < pairs)[None, :]).to(tl.int32), axis=1)
        accept = valid & ((weight < limit) | ((weight == limit) & (ids <= limit_ids))) & (before < left)

        merge = made + before
        union = P + merge
        tl.store(children + 2 * merge, a.to(tl.int64), mask=accept)
        tl.store(children + 2 * merge + 1, b.to(tl.int64), mask=accept)
        tl.store(heights + merge, weight, mask=accept)
        joined = tl.load(size + a, mask=accept, other=1.0) + tl.load(size + b, mask=accept, other=1.0)
        tl.store(size + union, joined, mask=accept)
        tl.store(sizes + merge, joined.to(tl.int64), mask=accept)
        tl.store(into + a, union, mask=accept)
        tl.store(into + b, union, mask=accept)
        if WARD:
            for r in range(R):
                sums = tl.load(total + a * R + r, mask=accept) + tl.load(total + b * R + r, mask=accept)
                tl.store(total + union * R + r, sums, mask=accept)
        merges += tl.sum(accept.to(tl.int32))
    tl.debug_barrier()
    return merges


@triton.jit
def replace_merged(alive, live, after, into, merges, made, P, BLOCK: tl.constexpr):
    """Lay out the live clusters of the next round in `after`; returns their number."""
    kept = 0
    for start in range(0, live, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        node = tl.load(alive + lane, mask=lane < live, other=0)
        stays = (lane < live) & (tl.load(into + node, mask=lane < live, other=-1) == node)
        tl.store(after + kept + tl.cumsum(stays.to(tl.int32), 0) - 1, node, mask=stays)
        kept += tl.sum(stays.to(tl.int32))
    for start in range(0, merges, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        tl.store(after + kept + lane, P + made + lane, mask=lane < merges)
    return kept + merges


@triton.jit
def lead_edges(
    u_of, v_of, weight_of, edges, next_u, next_v, next_weight, moved, into, total, size, R,
    WARD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lay out the edges of the next round; those of unions are weighed anew for Ward, else listed in `moved`.

    Returns the numbers of edges laid out and listed.
    """
    count = 0
    listed = 0
    for start in range(0, edges, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        valid = lane < edges
        old_u, old_v = tl.load(u_of + lane, mask=valid, other=0), tl.load(v_of + lane, mask=valid, other=0)
        u, v = tl.load(into + old_u, mask=valid, other=0), tl.load(into + old_v, mask=valid, other=0)
        weight = tl.load(weight_of + lane, mask=valid, other=0.0)
        keep = valid & (u != v)
        changed = keep & ((u != old_u) | (v != old_v))
        if WARD:
            alone = tl.full([BLOCK], -1, dtype=tl.int32)
            weight = tl.where(changed, ward_cost(total, size, u, alone, v, alone, R, changed), weight)
        else:
            tl.store(moved + listed + tl.cumsum(changed.to(tl.int32), 0) - 1, lane, mask=changed)
            listed += tl.sum(changed.to(tl.int32))
            keep = keep & ~changed
        place = count + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(next_u + place, u, mask=keep)
        tl.store(next_v + place, v, mask=keep)
        tl.store(next_weight + place, weight, mask=keep)
        count += tl.sum(keep.to(tl.int32))
    tl.debug_barrier()
    return count, listed


@triton.jit
def mean_of_present(a, b, size_a, size_b):
    """Mean of a and b weighed by the sizes, or the one that is there; -1 stands for none."""
    mean = divide(a * size_a + b * size_b, size_a + size_b)
    return tl.where(a < 0, b, tl.where(b < 0, a, mean))


@triton.jit
def join_edges(
    u_of, v_of, weight_of, moved, listed, next_u, next_v, next_weight, count, first, second, pair_of, into, size,
    METHOD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Make one edge of the `moved` ones between the same two clusters; returns the number of edges then.

    Between two unions there can be four, between the halves a, b of the earlier and c, d of the later.
    """
    for start in range(0, listed, ROWS):
        row = start + tl.arange(0, ROWS)
        valid = row < listed
        edge = tl.load(moved + row, mask=valid, other=0)
        u, v = tl.load(u_of + edge, mask=valid, other=0), tl.load(v_of + edge, mask=valid, other=0)
        union_u, union_v = tl.load(into + u, mask=valid, other=0), tl.load(into + v, mask=valid, other=0)
        # The earlier union is the one that was merged, and of two the one with the lower id.
        u_first = (union_u != u) & ((union_v == v) | (union_u < union_v))
        whole, part = tl.where(u_first, union_u, union_v), tl.where(u_first, union_v, union_u)
        a = tl.load(first + tl.load(pair_of + tl.where(u_first, u, v), mask=valid, other=0), mask=valid, other=0)
        b = tl.load(second + tl.load(pair_of + tl.where(u_first, u, v), mask=valid, other=0), mask=valid, other=0)
        other = tl.where(u_first, v, u)
        twice = part != other
        q = tl.load(pair_of + other, mask=valid & twice, other=0)
        c = tl.where(twice, tl.load(first + q, mask=valid & twice, other=0), other)

        earliest = tl.full([ROWS], 0x7FFFFFFF, dtype=tl.int32)
        ac = tl.full([ROWS], -1.0, dtype=weight_of.dtype.element_ty)
        bc, ad, bd, lightest = ac, ac, ac, ac + float("inf")
        for begin in range(0, listed, COLUMNS):
            lane = begin + tl.arange(0, COLUMNS)
            there = lane < listed
            e = tl.load(moved + lane, mask=there, other=0)
            x, y = tl.load(u_of + e, mask=there, other=0), tl.load(v_of + e, mask=there, other=0)
            union_x, union_y = tl.load(into + x, mask=there, other=0), tl.load(into + y, mask=there, other=0)
            same = (union_x[None, :] == whole[:, None]) & (union_y[None, :] == part[:, None])
            crossed = (union_y[None, :] == whole[:, None]) & (union_x[None, :] == part[:, None])
            twin = (same | crossed) & there[None, :] & valid[:, None]
            earliest = tl.minimum(earliest, tl.min(tl.where(twin, lane[None, :], 0x7FFFFFFF), axis=1))
            w = tl.load(weight_of + e, mask=there, other=0.0)[None, :]
            if METHOD == "single":
                lightest = tl.minimum(lightest, tl.min(tl.where(twin, w, float("inf")), axis=1))
            else:
                end = tl.where(same, x[None, :], y[None, :])
                far_end = tl.where(same, y[None, :], x[None, :])
                to_a, to_c = end == a[:, None], far_end == c[:, None]
                ac = tl.maximum(ac, tl.max(tl.where(twin & to_a & to_c, w, -1.0), axis=1))
                bc = tl.maximum(bc, tl.max(tl.where(twin & ~to_a & to_c, w, -1.0), axis=1))
                ad = tl.maximum(ad, tl.max(tl.where(twin & to_a & ~to_c, w, -1.0), axis=1))
                bd = tl.maximum(bd, tl.max(tl.where(twin & ~to_a & ~to_c, w, -1.0), axis=1))
        if METHOD == "single":
            weight = lightest
        elif METHOD == "complete":
            weight = tl.maximum(tl.maximum(ac, bc), tl.maximum(ad, bd))
        else:
            size_a, size_b = tl.load(size + a, mask=valid, other=1.0), tl.load(size + b, mask=valid, other=1.0)
            d = tl.where(twice, tl.load(second + q, mask=valid & twice, other=0), other)
            size_c, size_d = tl.load(size + c, mask=valid, other=1.0), tl.load(size + d, mask=valid, other=1.0)
            to_union_c = mean_of_present(ac, bc, size_a, size_b)
            to_union_d = mean_of_present(ad, bd, size_a, size_b)
            weight = mean_of_present(to_union_c, to_union_d, size_c, size_d)
        keep = valid & (earliest == row)
        place = count + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(next_u + place, whole, mask=keep)
        tl.store(next_v + place, part, mask=keep)
        tl.store(next_weight + place, weight, mask=keep)
        count += tl.sum(keep.to(tl.int32))
    return count


@triton.jit
def grow_trees(
    ends, given, mask, u_of, v_of, weight_of, moved, alive, live, total, size, near_bits, near_ids, pair_of, into,
    first, second, pair_weight, children, heights, sizes, wanted, P, E, R,
    METHOD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All rounds of one image. The edges and `alive` have two halves, of this round and, in turn, of the next."""
    image = tl.program_id(0).to(tl.int64)
    nodes = 2 * P - 1
    given += image * E
    mask += image * P
    u_of += image * 2 * E
    v_of += image * 2 * E
    weight_of += image * 2 * E
    moved += image * E
    alive += image * 2 * P
    total += image * nodes * R
    size += image * nodes
    near_bits += image * nodes
    near_ids += image * nodes
    pair_of += image * nodes
    into += image * nodes
    first += image * P
    second += image * P
    pair_weight += image * P
    children += image * 2 * (P - 1)
    heights += image * (P - 1)
    sizes += image * (P - 1)

    WARD: tl.constexpr = METHOD == "ward"
    want = tl.load(wanted + image).to(tl.int32)
    clusters = tl.load(live + image)
    edges = start_edges(ends, given, mask, u_of, v_of, weight_of, total, size, E, R, WARD, BLOCK)
    tl.debug_barrier()
    edge_half = 0
    alive_half = 0
    made = 0
    merges = 1
    while merges > 0:
        u, v, weight = u_of + edge_half, v_of + edge_half, weight_of + edge_half
        find_nearest(u, v, weight, edges, alive + alive_half, clusters, near_bits, near_ids, pair_of, BLOCK)
        pairs = find_pairs(
            alive + alive_half, clusters, near_bits, near_ids, pair_of, first, second, pair_weight, BLOCK
        )
        if METHOD == "ward":
            limit, limit_ids = ward_limit(
                u, v, weight, edges, near_ids, pair_of, first, second, pair_weight, total, size, R, BLOCK
            )
            left = want - made
        elif METHOD == "average":
            limit, limit_ids = average_limit(u, v, weight, edges, near_ids, pair_of, BLOCK)
            left = want - made
        else:
            # Unions only come to lie farther away, so all pairs merge now, until the lowest merges are known.
            limit, limit_ids = float("inf"), LAST
            left = tl.where(final_merges(weight, edges, heights, made, BLOCK) < want, P, 0)
        merges = merge_pairs(
            first, second, pair_weight, pairs, limit, limit_ids, left, made,
            into, total, size, children, heights, sizes, P, R, WARD, ROWS, COLUMNS,
        )  # fmt: skip
        clusters = replace_merged(alive + alive_half, clusters, alive + P - alive_half, into, merges, made, P, BLOCK)
        after = E - edge_half
        count, listed = lead_edges(
            u, v, weight, edges, u_of + after, v_of + after, weight_of + after, moved, into, total, size, R, WARD, BLOCK
        )
        if not WARD:
            count = join_edges(
                u, v, weight, moved, listed, u_of + after, v_of + after, weight_of + after, count,
                first, second, pair_of, into, size, METHOD, ROWS, COLUMNS,
            )  # fmt: skip
            tl.debug_barrier()
        edges = count
        edge_half = after
        alive_half = P - alive_half
        made += merges


TUNING = {"ROWS": 16, "COLUMNS": 64, "BLOCK": 512, "num_warps": 16, "enable_fp_fusion": False}


def ward_tree(points: Tensor, ends: Tensor, mask: Tensor, wanted: Tensor) -> MergeTree:
    """points: `[B, P, R]`. ends: `[E, 2]` int64. mask: `[B, P]` bool. wanted: `[B]` int64, merges."""
    images, count, rank = points.shape
    total = points.new_empty(images, 2 * count - 1, rank)
    total[:, :count] = points
    tree = _grow(points.new_empty(0), total, ends, "ward", mask, wanted)
    return tree._replace(heights=(2 * tree.heights).sqrt())


def edge_tree(weights: Tensor, ends: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """weights: `[B, E]`, of an edge given twice the smaller one counts. The rest as in `ward_tree`."""
    low, high = ends.min(1).values, ends.max(1).values
    key, order = (low * mask.shape[1] + high).sort(stable=True)
    starts = torch.ones_like(key, dtype=torch.bool)
    starts[1:] = key[1:] != key[:-1]
    group = (starts.cumsum(0) - 1).expand(len(weights), -1)
    lightest = torch.full_like(weights, torch.inf).scatter_reduce_(1, group, weights[:, order] + 0.0, "amin")
    given = torch.where(starts, lightest.gather(1, group), torch.inf)
    return _grow(given, weights.new_empty(0), ends[order], method, mask, wanted)


def _grow(given: Tensor, total: Tensor, ends: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    images, points = mask.shape
    nodes, edges, device = 2 * points - 1, len(ends), mask.device
    like = given if method != "ward" else total

    def integers(*shape: int) -> Tensor:
        return torch.empty(images, *shape, dtype=torch.int32, device=device)

    tree = unmade(images, points - 1, like)
    alive = integers(2, points)
    alive[:, 0] = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    into = torch.arange(nodes, dtype=torch.int32, device=device).repeat(images, 1)
    near_bits = torch.empty_like(into, dtype=torch.int32 if like.dtype == torch.float32 else torch.int64)
    grow_trees[(images,)](
        ends.contiguous(), given, mask.to(torch.int8), integers(2, edges), integers(2, edges),
        like.new_empty(images, 2, edges), integers(edges), alive, mask.sum(1, dtype=torch.int32),
        total, like.new_ones(images, nodes), near_bits, torch.empty_like(into, dtype=torch.int64), integers(nodes),
        into, integers(points), integers(points), like.new_empty(images, points),
        tree.children, tree.heights, tree.sizes, wanted, points, edges, total.shape[-1], METHOD=method, **TUNING,
    )  # fmt: skip
    return tree if method in ("ward", "average") else first_merges(by_height(tree), wanted)
