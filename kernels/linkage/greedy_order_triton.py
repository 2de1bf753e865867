"""Which merges of a graph the greedy order is bound to make next: the device functions of a round, for one image.

Edges are ordered by (weight, ids), the ids being the larger id of the two ends above the smaller. The torch rounds
beside this hold the same rules in fewer words. Threads of a program see each other's stores only after a barrier. The
atomics are relaxed: a barrier follows before their results are needed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ovsr_gpu.kernels.linkage.ieee_triton import divide

LAST = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def ids_of(u, v):
    return (tl.maximum(u, v).to(tl.int64) << 31) | tl.minimum(u, v).to(tl.int64)


@triton.jit
def other_end(ids, u):
    return ((ids >> 31) + (ids & 0x7FFFFFFF)).to(tl.int32) - u


@triton.jit
def least(weight, ids, other_weight, other_ids):
    """The lesser of two keys, lane by lane."""
    first = (weight < other_weight) | ((weight == other_weight) & (ids <= other_ids))
    return tl.where(first, weight, other_weight), tl.where(first, ids, other_ids)


@triton.jit
def most(weight, ids, other_weight, other_ids):
    """The greater of two keys, lane by lane."""
    first = (weight > other_weight) | ((weight == other_weight) & (ids >= other_ids))
    return tl.where(first, weight, other_weight), tl.where(first, ids, other_ids)


@triton.jit
def ward_cost(total, size, a, a2, b, b2, R, valid):
    """What joining cluster a with b adds to the sum of squares; either is the union with a second one unless -1."""
    two_a, two_b = valid & (a2 >= 0), valid & (b2 >= 0)
    size_a = tl.load(size + a, mask=valid, other=1.0) + tl.load(size + a2, mask=two_a, other=0.0)
    size_b = tl.load(size + b, mask=valid, other=1.0) + tl.load(size + b2, mask=two_b, other=0.0)
    squares = tl.zeros_like(size_a)
    for r in range(R):
        sum_a = tl.load(total + a * R + r, mask=valid, other=0.0) + tl.load(total + a2 * R + r, mask=two_a, other=0.0)
        sum_b = tl.load(total + b * R + r, mask=valid, other=0.0) + tl.load(total + b2 * R + r, mask=two_b, other=0.0)
        gap = divide(sum_a, size_a) - divide(sum_b, size_b)
        squares += gap * gap
    return squares * divide(size_a * size_b, size_a + size_b)


@triton.jit
def find_nearest(u_of, v_of, weight_of, edges, alive, live, near_bits, near_ids, pair_of, BLOCK: tl.constexpr):
    """Key of the nearest edge of every live cluster."""
    bits_type: tl.constexpr = near_bits.dtype.element_ty
    far = tl.full([BLOCK], float("inf"), dtype=weight_of.dtype.element_ty).to(bits_type, bitcast=True)
    for start in range(0, live, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        node = tl.load(alive + lane, mask=lane < live, other=0)
        tl.store(near_bits + node, far, mask=lane < live)
        tl.store(near_ids + node, LAST, mask=lane < live)
        tl.store(pair_of + node, -1, mask=lane < live)
    tl.debug_barrier()
    # Weights are not negative, so their bits are in their order.
    for start in range(0, edges, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        valid = lane < edges
        bits = tl.load(weight_of + lane, mask=valid, other=0.0).to(bits_type, bitcast=True)
        tl.atomic_min(near_bits + tl.load(u_of + lane, mask=valid, other=0), bits, mask=valid, sem="relaxed")
        tl.atomic_min(near_bits + tl.load(v_of + lane, mask=valid, other=0), bits, mask=valid, sem="relaxed")
    tl.debug_barrier()
    for start in range(0, edges, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        valid = lane < edges
        u, v = tl.load(u_of + lane, mask=valid, other=0), tl.load(v_of + lane, mask=valid, other=0)
        bits = tl.load(weight_of + lane, mask=valid, other=0.0).to(bits_type, bitcast=True)
        tl.atomic_min(
            near_ids + u, ids_of(u, v), mask=valid & (tl.load(near_bits + u, mask=valid) == bits), sem="relaxed"
        )
        tl.atomic_min(
            near_ids + v, ids_of(u, v), mask=valid & (tl.load(near_bits + v, mask=valid) == bits), sem="relaxed"
        )
    tl.debug_barrier()


@triton.jit
def find_pairs(alive, live, near_bits, near_ids, pair_of, first, second, pair_weight, BLOCK: tl.constexpr):
    """The clusters that are nearest to each other go to `first` (the lower) and `second`; returns their number."""
    pairs = 0
    for start in range(0, live, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        node = tl.load(alive + lane, mask=lane < live, other=0)
        ids = tl.load(near_ids + node, mask=lane < live, other=LAST)
        has_edge = (lane < live) & (ids != LAST)
        other = other_end(ids, node)
        leads = has_edge & (node < other) & (tl.load(near_ids + other, mask=has_edge, other=0) == ids)
        rank = pairs + tl.cumsum(leads.to(tl.int32), 0) - 1
        bits = tl.load(near_bits + node, mask=leads, other=0)
        tl.store(first + rank, node, mask=leads)
        tl.store(second + rank, other, mask=leads)
        tl.store(pair_weight + rank, bits.to(pair_weight.dtype.element_ty, bitcast=True), mask=leads)
        tl.store(pair_of + node, rank, mask=leads)
        tl.store(pair_of + other, rank, mask=leads)
        pairs += tl.sum(leads.to(tl.int32))
    tl.debug_barrier()
    return pairs


@triton.jit
def ward_limit(
    u_of, v_of, weight_of, edges, near_ids, pair_of, first, second, pair_weight, total, size, R, BLOCK: tl.constexpr
):
    """The key after which a merge that is no pair of this round could come."""
    best = tl.full([BLOCK], float("inf"), dtype=weight_of.dtype.element_ty)
    best_ids = tl.full([BLOCK], LAST, dtype=tl.int64)
    for way in tl.static_range(2):  # nodes that lose their nearest neighbour to a pair
        for start in range(0, edges, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            valid = lane < edges
            u, v = tl.load(u_of + lane, mask=valid, other=0), tl.load(v_of + lane, mask=valid, other=0)
            source, target = (u, v) if way == 0 else (v, u)
            favourite = other_end(tl.load(near_ids + source, mask=valid, other=0), source)
            pair = tl.load(pair_of + favourite, mask=valid, other=-1)
            exposed = valid & (pair >= 0)
            exposed = exposed & (tl.load(pair_of + source, mask=valid, other=-1) != pair)
            exposed = exposed & (tl.load(pair_of + target, mask=valid, other=-1) != pair)
            a, b = tl.load(first + pair, mask=exposed, other=0), tl.load(second + pair, mask=exposed, other=0)
            bound, bound_ids = most(
                tl.load(pair_weight + pair, mask=exposed, other=0.0), ids_of(a, b),
                tl.load(weight_of + lane, mask=exposed, other=float("inf")), ids_of(u, v),
            )  # fmt: skip
            bound = tl.where(exposed, bound, float("inf"))
            best, best_ids = least(best, best_ids, bound, bound_ids)
    near = tl.min(best)
    for way in tl.static_range(2):  # edges from the union of a pair to a neighbour, or to the union of another pair
        for start in range(0, edges, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            valid = lane < edges
            u, v = tl.load(u_of + lane, mask=valid, other=0), tl.load(v_of + lane, mask=valid, other=0)
            source, target = (u, v) if way == 0 else (v, u)
            p = tl.load(pair_of + source, mask=valid, other=-1)
            q = tl.load(pair_of + target, mask=valid, other=-1)
            leaves = valid & (p >= 0) & (p != q)
            at = tl.load(pair_weight + p, mask=leaves, other=float("inf"))
            leaves = leaves & (at <= near)  # pairs beyond neither merge now nor lower the limit
            a, b = tl.load(first + p, mask=leaves, other=0), tl.load(second + p, mask=leaves, other=-1)
            alone = tl.full([BLOCK], -1, dtype=tl.int32)
            cost = ward_cost(total, size, a, b, target, alone, R, leaves)
            bound, bound_ids = most(at, ids_of(a, b), cost, tl.full([BLOCK], LAST, dtype=tl.int64))
            best, best_ids = least(best, best_ids, tl.where(leaves, bound, float("inf")), bound_ids)

            touches = leaves & (q >= 0)
            at_q = tl.load(pair_weight + q, mask=touches, other=float("inf"))
            touches = touches & (at_q <= near)
            c, d = tl.load(first + q, mask=touches, other=0), tl.load(second + q, mask=touches, other=-1)
            cost = ward_cost(total, size, a, b, c, d, R, touches)
            bound, bound_ids = most(at, ids_of(a, b), at_q, ids_of(c, d))
            bound, bound_ids = most(bound, bound_ids, cost, tl.full([BLOCK], LAST, dtype=tl.int64))
            best, best_ids = least(best, best_ids, tl.where(touches, bound, float("inf")), bound_ids)
    weight = tl.min(best)
    return weight, tl.min(tl.where(best == weight, best_ids, LAST))


@triton.jit
def average_limit(u_of, v_of, weight_of, edges, near_ids, pair_of, BLOCK: tl.constexpr):
    """The least key of the edges that leave a pair: no edge of a union is lighter."""
    best = tl.full([BLOCK], float("inf"), dtype=weight_of.dtype.element_ty)
    best_ids = tl.full([BLOCK], LAST, dtype=tl.int64)
    for start in range(0, edges, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        valid = lane < edges
        u, v = tl.load(u_of + lane, mask=valid, other=0), tl.load(v_of + lane, mask=valid, other=0)
        p, q = tl.load(pair_of + u, mask=valid, other=-1), tl.load(pair_of + v, mask=valid, other=-1)
        weight = tl.load(weight_of + lane, mask=valid & (p != q), other=float("inf"))
        best, best_ids = least(best, best_ids, weight, ids_of(u, v))
    weight = tl.min(best)
    return weight, tl.min(tl.where(best == weight, best_ids, LAST))
