"""Single linkage as Triton kernels: a minimum spanning tree, whose edges in the order of their lengths are the merges.

One program does one image; the torch twin holds the same steps in fewer words.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ovsr_gpu.kernels.linkage.single_torch import in_order
from ovsr_gpu.kernels.trees import MergeTree, first_merges, unmade

LAST = tl.constexpr(0x7FFFFFFFFFFFFFFF)
TUNING = {"BLOCK": 1024, "num_warps": 8, "enable_fp_fusion": False}


@triton.jit
def spanning_tree(distance, reach, tail, starts, edges, lengths, P, BLOCK: tl.constexpr):
    """Prim's algorithm; of edges of one length that with the lower ends counts as the shorter.

    reach: `[B, P]`, infinite where a point takes part, else NaN, as for points of the tree. edges: low * P + high. Each
    thread reads what it wrote itself, so no barrier is needed.
    """
    image = tl.program_id(0).to(tl.int64)
    distance += image * P * P
    reach += image * P
    tail += image * P
    edges += image * (P - 1)
    lengths += image * (P - 1)
    kind: tl.constexpr = distance.dtype.element_ty
    last = tl.load(starts + image).to(tl.int32)
    for step in range(0, P - 1):
        best = tl.full([BLOCK], float("inf"), dtype=kind)
        best_edge = tl.full([BLOCK], LAST, dtype=tl.int64)
        best_point = tl.zeros([BLOCK], dtype=tl.int32)
        row = distance + last.to(tl.int64) * P
        for start in range(0, P, BLOCK):
            point = start + tl.arange(0, BLOCK)
            valid = point < P
            known = tl.load(reach + point, mask=valid, other=float("nan"))
            known = tl.where(point == last, float("nan"), known)
            known_edge = tl.load(tail + point, mask=valid, other=LAST)
            far = tl.load(row + point, mask=valid, other=float("inf"))
            edge = tl.minimum(point, last).to(tl.int64) * P + tl.maximum(point, last)
            nearer = (far < known) | ((far == known) & (edge < known_edge))
            known = tl.where(nearer, far, known)
            known_edge = tl.where(nearer, edge, known_edge)
            tl.store(reach + point, known, mask=valid)
            tl.store(tail + point, known_edge, mask=valid)
            closer = (known < best) | ((known == best) & (known_edge < best_edge))
            best = tl.where(closer, known, best)
            best_edge = tl.where(closer, known_edge, best_edge)
            best_point = tl.where(closer, point, best_point)
        length = tl.min(best)
        shortest = tl.min(tl.where(best == length, best_edge, LAST))
        last = tl.max(tl.where((best == length) & (best_edge == shortest), best_point, 0))
        tl.store(lengths + step, length)
        tl.store(edges + step, shortest)


@triton.jit
def join_ends(edges, lengths, cluster, children, sizes, P, BLOCK: tl.constexpr):
    """Join the ends of one edge after another. cluster: `[B, P]`, of each point."""
    image = tl.program_id(0).to(tl.int64)
    cluster += image * P
    edges += image * (P - 1)
    lengths += image * (P - 1)
    children += image * 2 * (P - 1)
    sizes += image * (P - 1)
    for merge in range(0, P - 1):
        if tl.load(lengths + merge) < float("inf"):
            edge = tl.load(edges + merge)
            a = tl.load(cluster + edge // P)
            b = tl.load(cluster + edge % P)
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


def single_linkage(distance: Tensor, mask: Tensor, wanted: Tensor) -> MergeTree:
    """Merge tree of each image from its distances `[B, P, P]`, whose diagonal is overwritten.

    mask: `[B, P]` bool. wanted: `[B]` int64.
    """
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    mask = mask & distance.isfinite().any(2)
    images, points = mask.shape
    device = mask.device
    reach = torch.where(mask, torch.inf, torch.nan).to(distance.dtype)
    tail = torch.full_like(mask, points * points, dtype=torch.int64)
    edges = torch.empty(images, points - 1, dtype=torch.int64, device=device)
    lengths = distance.new_empty(images, points - 1)
    spanning_tree[(images,)](distance, reach, tail, mask.to(torch.uint8).argmax(1), edges, lengths, points, **TUNING)

    edges, lengths = in_order(edges, lengths)
    tree = unmade(images, points - 1, distance)._replace(heights=lengths)
    cluster = torch.arange(points, dtype=torch.int32, device=device).repeat(images, 1)
    join_ends[(images,)](edges, lengths, cluster, tree.children, tree.sizes, points, **TUNING)
    return first_merges(tree, wanted)
