"""Flat clusters out of merge trees, all images at once."""

from __future__ import annotations

import torch
from torch import Tensor


def cut(children: Tensor, clusters: Tensor) -> Tensor:
    """Cluster of each pixel after the first P-k merges of its image's tree.

    children: `[B, P-1, 2]` int64, id P+m is the cluster of merge m. clusters: `[B]` int64, k in [1, P] for each image.
    Returns labels `[B, P]` int64, 0..k-1 in the order of each cluster's first pixel.
    """
    images, merges, _ = children.shape
    pixels = merges + 1
    device = children.device
    merge = torch.arange(merges, device=device)
    done = merge < (pixels - clusters)[:, None]  # [B, P-1]
    parent = torch.arange(pixels + merges, device=device).repeat(images, 1)
    joined = torch.where(done[:, :, None], (pixels + merge)[None, :, None], children)  # an unmade merge moves nothing
    parent.scatter_(1, children.flatten(1), joined.flatten(1))
    return number_by_first(roots(parent)[:, :pixels])


def roots(parent: Tensor) -> Tensor:
    """Root of every node of a forest of `[..., nodes]` parent pointers, by pointer jumping; a root points to itself."""
    for _ in range(max(parent.shape[-1] - 1, 1).bit_length()):
        parent = parent.gather(-1, parent)
    return parent


def number_by_first(labels: Tensor) -> Tensor:
    """Renumber the labels of each row 0, 1, ... in the order of their first place.

    labels: `[B, P]` int64, any values in [0, 2P). Returns `[B, P]` int64.
    """
    images, pixels = labels.shape
    place = torch.arange(pixels, device=labels.device).expand(images, pixels)
    first = torch.full((images, 2 * pixels), pixels, device=labels.device)
    first = first.scatter_reduce(1, labels, place, "amin").gather(1, labels)  # first place of each pixel's label
    return ((first == place).cumsum(1) - 1).gather(1, first)
