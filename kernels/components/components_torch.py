"""Connected components and absorption of small ones in batched torch operations."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.linkage import grid_edges
from ovsr_gpu.kernels.trees import roots


def first_cells(labels: Tensor) -> Tensor:
    """First cell of the component of each cell of `[B, h, w]`: `[B, h * w]`."""
    images, height, width = labels.shape
    edges = grid_edges(height, width, "4", labels.device)
    flat = labels.flatten(1)
    ends = edges.T.reshape(1, -1).expand(images, -1)  # [B, 2 * edges]: both directions of every edge
    others = edges.flip(1).T.reshape(1, -1).expand(images, -1)
    same = flat.gather(1, ends) == flat.gather(1, others)
    first = torch.arange(height * width, device=labels.device).repeat(images, 1)
    while True:
        offer = torch.where(same, first.gather(1, others), height * width)
        lower = roots(first.scatter_reduce(1, ends, offer, "amin"))
        if torch.equal(lower, first):
            return first
        first = lower


def absorb(components: Tensor, least: float) -> Tensor:
    """The component `[B, h * w]` that each cell of `[B, h, w]` ends in."""
    images, height, width = components.shape
    cells = height * width
    device = components.device
    first_cell = cells * torch.arange(images, device=device)[:, None, None]
    own = (components + first_cell).flatten()  # unique in the batch
    left, right = (grid_edges(height, width, "4", device) + first_cell).flatten(0, 1).unbind(1)
    ids = torch.arange(images * cells, device=device)
    while True:
        area = torch.bincount(own, minlength=images * cells)
        a, b = own[left], own[right]
        between = a != b
        a, b = torch.cat([a[between], b[between]]), torch.cat([b[between], a[between]])
        # A small component goes once all its neighbours come later, so those that go together never touch.
        rank = area * (images * cells) + ids
        lowest = torch.full_like(rank, torch.iinfo(torch.int64).max).scatter_reduce_(0, a, rank[b], "amin")
        goes = (area > 0) & (area < least) & (rank < lowest) & (lowest < torch.iinfo(torch.int64).max)
        leaving = goes[a]
        if not bool(leaving.any()):
            return own.view(images, cells) % cells
        pair, border = torch.unique(a[leaving] * (images * cells) + b[leaving], return_counts=True)
        source, target = pair // (images * cells), pair % (images * cells)
        preference = border * (images * cells) + (images * cells - 1 - target)
        best = torch.zeros_like(ids).scatter_reduce_(0, source, preference, "amax")
        into = torch.where(goes, images * cells - 1 - best % (images * cells), ids)
        own = into[own]
