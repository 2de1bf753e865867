"""Crop and resize in torch, box by box.

`embedding_bag` computes what a pass needs: the input lines are its table, the taps of an output line are a bag. Pixels
times 22-bit weights, and their sums, are exact in float64.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ovsr_gpu.kernels.crop_resize.arguments import SUPPORT, WEIGHT_BITS, Finish, Normalisation, Windows

CACHED_AXES = 32
"""So many tables of taps and weights are kept: the sizes of pictures come again."""


def crop_resize(images: Tensor, windows: Windows, interpolation: str, finish: Finish) -> Tensor:
    count, side = len(windows.boxes), windows.side
    crops = torch.full((count, 3, side, side), finish.fill, dtype=torch.float32, device=images.device)
    source = images.cpu() if images.device.type == "mps" else images  # MPS has no float64
    lists = (tensor.tolist() for tensor in windows[:4])
    for crop, image, (x0, y0, x1, y1), size, corner in zip(crops, *lists, strict=True):
        rows, columns = (_inside(*axis, side) for axis in zip(size, corner, strict=True))
        if len(rows) and len(columns):
            top, left = corner
            box = _resized(source[image, :, y0:y1, x0:x1], size, rows, columns, interpolation)
            crop[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = box
    return _finished(crops, windows, finish)


def _inside(resized: int, corner: int, side: int) -> range:
    """The lines of a resized box that lie in a window of `side` lines from `corner` on."""
    return range(max(corner, 0), min(corner + side, resized))


def _resized(box: Tensor, size: list[int], rows: range, columns: range, interpolation: str) -> Tensor:
    """A box `[3, h, w]` resized to `size` (height, width), of which only some lines are wanted, uint8."""
    height, width = box.shape[1:]
    used_y, *down = _taps(height, size[0], rows, interpolation)
    used_x, *across = _taps(width, size[1], columns, interpolation)
    box = box[:, used_y, used_x]
    shrink_y, shrink_x = height - size[0], width - size[1]
    if shrink_y > 0 and shrink_y > 2 * shrink_x:
        return _pass(_pass(box, *down).mT, *across).mT
    return _pass(_pass(box.mT, *across).mT, *down)


@lru_cache(maxsize=CACHED_AXES)
def _taps(length: int, resized: int, lines: range, interpolation: str) -> tuple[slice, Tensor, Tensor]:
    """The input lines that some output lines need, and of each its taps and their weights, both `[len(lines), taps]`.

    Taps are int64, counted from the first input line needed; weights are float64. The arithmetic is that of Pillow's
    `precompute_coeffs`, step by step: sums go over the taps in their order.
    """
    scale = length / resized
    stretch = max(scale, 1.0)
    support = SUPPORT[interpolation] * stretch
    centre = (torch.arange(lines.start, lines.stop).double() + 0.5) * scale
    lowest = (centre - support + 0.5).long().clamp_min(0)
    highest = (centre + support + 0.5).long().clamp_max(length)
    taps = lowest[:, None] + torch.arange(int((highest - lowest).max()))
    weights = _FILTERS[interpolation](((taps - centre[:, None] + 0.5) * (1 / stretch)).abs())
    weights = torch.where(taps < highest[:, None], weights, 0.0)
    weights = weights / weights.cumsum(1)[:, -1:]
    unit = 1 << WEIGHT_BITS
    weights = torch.floor(weights.abs() * unit + 0.5) * weights.sign() / unit
    used = slice(int(lowest[0]), int(highest[-1]))
    return used, taps.clamp_max(used.stop - 1) - used.start, weights


def _bicubic(x: Tensor) -> Tensor:
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x).clamp_min(0)


_FILTERS = {"bicubic": _bicubic, "bilinear": _bilinear}


def _pass(picture: Tensor, taps: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of the rows of `[3, F, G]`: `[3, len(taps), G]` uint8."""
    lines = picture.transpose(0, 1).contiguous()
    table = lines.flatten(1).double()
    summed = embedding_bag(taps.to(table.device), table, per_sample_weights=weights.to(table.device), mode="sum")
    values = summed.add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    return values.view(-1, *lines.shape[1:]).transpose(0, 1)


def _finished(crops: Tensor, windows: Windows, finish: Finish) -> Tensor:
    """Mask, normalisation and output format."""
    if finish.mask is not None:
        region_map, spans, colour = finish.mask
        image_index, boxes, resized, offset, side = windows
        foreign = ~crop_masks(region_map, image_index, spans, boxes, side, resized, offset)
        for channel, value in zip(crops.unbind(1), colour, strict=True):
            channel.masked_fill_(foreign, value)
    if finish.normalisation is not None:
        normalise(crops, finish.normalisation)
    return crops.to(finish.dtype, memory_format=finish.memory_format)


def normalise(crops: Tensor, normalisation: Normalisation) -> Tensor:
    """(x / 255 - mean) / std in place, of crops `[N, 3, S, S]` float32 with values 0 to 255."""
    for channel, mean, std in zip(crops.unbind(1), *normalisation, strict=True):
        channel.div_(255).sub_(mean).div_(std)
    return crops


def crop_masks(
    region_map: Tensor, image_index: Tensor, spans: Tensor, boxes: Tensor, side: int, resized: Tensor, offset: Tensor
) -> Tensor:
    """Which pixels of each crop belong to its region, by the picture's pixel under their centre: `[N, S, S]` bool.

    region_map and spans as in `RegionMask`; the rest is as in `crop_resize`.
    """
    at = torch.arange(side, device=boxes.device)
    window = offset[:, :, None] + at  # [N, 2, S]: row and column in the resized box
    start, stop = boxes[:, :2].flip(1), boxes[:, 2:].flip(1)
    sides = stop - start
    under = ((2 * window + 1) * sides[:, :, None]) // (2 * resized[:, :, None])
    inside = (window >= 0) & (window < resized[:, :, None])
    row, column = (start[:, :, None] + torch.minimum(under.clamp_min(0), sides[:, :, None] - 1)).unbind(1)
    number = region_map[image_index[:, None, None], row[:, :, None], column[:, None, :]]
    first, end = spans[:, :, None, None].unbind(1)
    return (number >= first) & (number < end) & inside[:, 0, :, None] & inside[:, 1, None, :]
