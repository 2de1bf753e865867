"""What a crop needs to know beside its pixels, and how wide the resize's filters are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SUPPORT = {"bicubic": 2, "bilinear": 1}
"""Half the width of each filter, in output pixels when shrinking, in input pixels when growing."""

WEIGHT_BITS = 22
"""Fractional bits of the weights, as in Pillow."""


class RegionMask(NamedTuple):
    """Keeps the pixels of each crop that belong to its region, by the picture's pixel under their centre.

    region_map: `[B, H, W]` int32. spans: `[N, 2]` int64, numbers of the picture that are the region's, the first and
    the one after the last. colour: red, green and blue of all other pixels, 0 to 255.
    """

    region_map: Tensor
    spans: Tensor
    colour: Sequence[float]


class Normalisation(NamedTuple):
    """(x / 255 - mean) / std with three values each, for red, green and blue."""

    mean: Sequence[float]
    std: Sequence[float]


class Windows(NamedTuple):
    """Where the crops come from: `crop_resize` describes the fields."""

    image_index: Tensor
    boxes: Tensor
    resized: Tensor
    offset: Tensor
    side: int


class Finish(NamedTuple):
    """What becomes of the resized pixels: `crop_resize` describes the fields."""

    fill: float
    mask: RegionMask | None
    normalisation: Normalisation | None
    dtype: torch.dtype
    memory_format: torch.memory_format
