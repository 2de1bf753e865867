"""Connected components and absorption of small ones as Triton kernels, one program an image, no host in between.

Threads of a program see each other's stores only after a barrier. The atomics are relaxed: a barrier follows before
their results are needed.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

NOWHERE = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def neighbour(lane, H, W, SIDE: tl.constexpr):
    """The cell beyond one side of the cells `lane`, and whether there is one."""
    row, column = lane // W, lane % W
    if SIDE == 0:
        return lane - W, row > 0
    elif SIDE == 1:
        return lane - 1, column > 0
    elif SIDE == 2:
        return lane + 1, column < W - 1
    else:
        return lane + W, row < H - 1


@triton.jit
def find_components(labels, first, H, W, BLOCK: tl.constexpr):
    """Give each cell the first cell of its component: the root of each tree takes the least root that touches it, then
    all cells go up to their roots, until no tree touches another of its label."""
    cells = H * W
    labels += tl.program_id(0).to(tl.int64) * cells
    first += tl.program_id(0).to(tl.int64) * cells
    for start in range(0, cells, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        tl.store(first + lane, lane, mask=lane < cells)
    tl.debug_barrier()

    joined = 1
    while joined > 0:
        joined = 0
        for start in range(0, cells, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            valid = lane < cells
            label = tl.load(labels + lane, mask=valid, other=0)
            root = tl.load(first + lane, mask=valid, other=0)
            least = root
            for side in tl.static_range(4):
                other, there = neighbour(lane, H, W, side)
                same = valid & there
                same = same & (tl.load(labels + other, mask=same, other=0) == label)
                least = tl.minimum(least, tl.load(first + other, mask=same, other=0x7FFFFFFF))
            tl.atomic_min(first + root, least, mask=valid & (least < root), sem="relaxed")
            joined += tl.sum((valid & (least < root)).to(tl.int32))
        tl.debug_barrier()
        # This loop reads entries that other threads overwrite. The race is benign: an entry changes from one ancestor
        # to the root, and the entry of the root itself does not change here, so that every path ends at the same root.
        for start in range(0, cells, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            root = tl.load(first + lane, mask=lane < cells, other=0)
            above = tl.load(first + root, mask=lane < cells, other=0)
            while tl.max((above != root).to(tl.int32)) > 0:
                root = above
                above = tl.load(first + root, mask=lane < cells, other=0)
            tl.store(first + lane, root, mask=lane < cells)
        tl.debug_barrier()


@triton.jit
def absorb_components(own, area, border, least, H, W, BLOCK: tl.constexpr):
    """Absorb one small component after another; area and border: zeros for each component."""
    cells = H * W
    own += tl.program_id(0).to(tl.int64) * cells
    area += tl.program_id(0).to(tl.int64) * cells
    border += tl.program_id(0).to(tl.int64) * cells
    for start in range(0, cells, BLOCK):
        lane = start + tl.arange(0, BLOCK)
        component = tl.load(own + lane, mask=lane < cells, other=0)
        tl.atomic_add(area + component, 1, mask=lane < cells, sem="relaxed")
    tl.debug_barrier()

    going = 1
    while going > 0:
        smallest = tl.full([BLOCK], NOWHERE, dtype=tl.int64)
        for start in range(0, cells, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            size = tl.load(area + lane, mask=lane < cells, other=0)
            rank = size.to(tl.int64) * cells + lane
            smallest = tl.minimum(smallest, tl.where((size > 0) & (size < least), rank, NOWHERE))
        rank = tl.min(smallest)
        goes = (rank % cells).to(tl.int32)

        going = 0
        for start in range(0, cells, BLOCK):
            lane = start + tl.arange(0, BLOCK)
            inside = (lane < cells) & (rank < NOWHERE) & (tl.load(own + lane, mask=lane < cells, other=-1) == goes)
            for side in tl.static_range(4):
                other, there = neighbour(lane, H, W, side)
                beyond = tl.load(own + other, mask=inside & there, other=0)
                touches = inside & there & (beyond != goes)
                tl.atomic_add(border + beyond, 1, mask=touches, sem="relaxed")
                going += tl.sum(touches.to(tl.int32))
        tl.debug_barrier()

        if going > 0:
            longest = tl.zeros([BLOCK], dtype=tl.int64)
            for start in range(0, cells, BLOCK):
                lane = start + tl.arange(0, BLOCK)
                length = tl.load(border + lane, mask=lane < cells, other=0)
                longest = tl.maximum(longest, length.to(tl.int64) * cells + (cells - 1 - lane))
            into = (cells - 1 - tl.max(longest) % cells).to(tl.int32)
            tl.debug_barrier()
            for start in range(0, cells, BLOCK):
                lane = start + tl.arange(0, BLOCK)
                valid = lane < cells
                tl.store(border + lane, 0, mask=valid)
                tl.store(own + lane, into, mask=valid & (tl.load(own + lane, mask=valid, other=-1) == goes))
                size = tl.load(area + lane, mask=valid, other=0)
                size = tl.where(lane == into, size + (rank // cells).to(tl.int32), tl.where(lane == goes, 0, size))
                tl.store(area + lane, size, mask=valid)
            tl.debug_barrier()


TUNING = {"BLOCK": 512, "num_warps": 8}


def first_cells(labels: Tensor) -> Tensor:
    """First cell of the component of each cell of `[B, h, w]`: `[B, h * w]`."""
    images, height, width = labels.shape
    first = torch.empty(images, height * width, dtype=torch.int32, device=labels.device)
    find_components[(images,)](labels.contiguous(), first, height, width, **TUNING)
    return first.to(torch.int64)


def absorb(components: Tensor, least: float) -> Tensor:
    """The component `[B, h * w]` that each cell of `[B, h, w]` ends in."""
    images, height, width = components.shape
    own = components.flatten(1).to(torch.int32)
    area, border = torch.zeros_like(own), torch.zeros_like(own)
    absorb_components[(images,)](own, area, border, math.ceil(least), height, width, **TUNING)
    return own.to(torch.int64)
