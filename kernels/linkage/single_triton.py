"""Single linkage as Triton kernels: a minimum spanning tree, whose edges in the order of their lengths are the merges.

One program does one image; the torch twin holds the same steps in fewer words.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ovsr_gpu.kernels.trees import MergeTree, first_merges, unmade


@triton.jit
def spanning_tree(distance, reach, tail, starts, ends, lengths, P, BLOCK: tl.constexpr):
    """Prim's algorithm. reach: `[B, P]`, infinite where a point takes part, else NaN; so again once it is in the tree.

    Each thread reads what it wrote itself, so no barrier is needed.
    """
    image = tl.program_id(0).to(tl.int64)
    distance += image * P * P
    reach += image * P
    tail += image * P
    ends += image * 2 * (P - 1)
    lengths += image * (P - 1)
    kind: tl.constexpr = distance.dtype.element_ty
    last = tl.load(starts + image).to(tl.int32)
    for step in range(0, P - 1):
        best = tl.full([BLOCK], float("inf"), dtype=kind)
        best_point = tl.full([BLOCK], 0x7FFFFFFF, dtype=tl.int32)
        best_tail = tl.zeros([BLOCK], dtype=tl.int32)
        row = distance + last.to(tl.int64) * P
        for start in range(0, P, BLOCK):
            point = start + tl.arange(0, BLOCK)
            valid = point < P
            known = tl.load(reach + point, mask=valid, other=float("nan"))
            known = tl.where(point == last, float("nan"), known)
            far = tl.load(row + point, mask=valid, other=float("inf"))
            nearer = far < known
            known = tl.where(nearer, far, known)
            from_point = tl.where(nearer, last, tl.load(tail + point, mask=valid, other=0))
            tl.store(reach + point, known, mask=valid)
            tl.store(tail + point, from_point, mask=valid)
            closer = known < best
            best = tl.where(closer, known, best)
            best_point = tl.where(closer, point, best_point)
            best_tail = tl.where(closer, from_point, best_tail)
        length = tl.min(best)
        next_point = tl.min(tl.where(best == length, best_point, 0x7FFFFFFF))
        from_tail = tl.sum(tl.where(best_point == next_point, best_tail, 0))
        last = tl.minimum(next_point, P - 1)  # where no point is left, the length is infinite: no edge
        tl.store(lengths + step, length)
        tl.store(ends + 2 * step, from_tail.to(tl.int64))
        tl.store(ends + 2 * step + 1, last.to(tl.int64))


@triton.jit
def join_ends(ends, lengths, cluster, children, sizes, P, BLOCK: tl.constexpr):
    """Join the ends of one edge after another. cluster: `[B, P]`, of each point."""
    image = tl.program_id(0).to(tl.int64)
    cluster += image * P
    ends += image * 2 * (P - 1)
    lengths += image * (P - 1)
    children += image * 2 * (P - 1)
    sizes += image * (P - 1)
    for merge in range(0, P - 1):
        if tl.load(lengths + merge) < float("inf"):
            a = tl.load(cluster + tl.load(ends + 2 * merge))
            b = tl.load(cluster + tl.load(ends + 2 * merge + 1))
            tl.debug_barrier()
            size = 0
            for start in range(0, P, BLOCK):
                point = start + tl.arange(0, BLOCK)
                own = tl.load(cluster + point, mask=point < P, other=-1)
                union = (own == a) | (own == b)
                tl.store(cluster + point, P + merge, mask=union)
                size += tl.sum(union.to(tl.int32))
            tl.store(children + 2 * merge, tl.minimum(a, b).to(tl.int64))
            tl.store(children + 2 * merge + 1, tl.maximum(a, b).to(tl.int64))
            tl.store(sizes + merge, size.to(tl.int64))
            tl.debug_barrier()


TUNING = {"BLOCK": 1024, "num_warps": 8}


def single_linkage(distance: Tensor, mask: Tensor, stop_at: Tensor) -> MergeTree:
    """Merge tree of each image from its distances `[B, P, P]`, whose diagonal is overwritten.

    mask: `[B, P]` bool. stop_at: `[B]` int64.
    """
    wanted = (mask.sum(1) - stop_at).clamp_min(0)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    mask = mask & distance.isfinite().any(2)
    images, points = mask.shape
    device = mask.device
    reach = torch.where(mask, torch.inf, torch.nan).to(distance.dtype)
    tail = torch.zeros_like(mask, dtype=torch.int32)
    ends = torch.zeros(images, points - 1, 2, dtype=torch.int64, device=device)
    lengths = distance.new_full((images, points - 1), torch.inf)
    spanning_tree[(images,)](distance, reach, tail, mask.to(torch.uint8).argmax(1), ends, lengths, points, **TUNING)

    tree = unmade(images, points - 1, distance)
    heights, order = lengths.sort(dim=1, stable=True)
    ends = ends.gather(1, order[:, :, None].expand(-1, -1, 2))
    cluster = torch.arange(points, dtype=torch.int32, device=device).repeat(images, 1)
    join_ends[(images,)](ends, heights, cluster, tree.children, tree.sizes, points, **TUNING)
    return first_merges(tree._replace(heights=heights), wanted)
