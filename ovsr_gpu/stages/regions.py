"""Regions: connected pieces of the clusters, at full resolution, with their boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.kernels.components import absorb_small, connected_components
from ovsr_gpu.structures import Regions
from ovsr_gpu.timing import stage


@stage("regions")
def localise(labels: Tensor, images: ImageBatch, config: RegionConfig) -> tuple[Tensor, Regions]:
    """Regions of the clustered grid.

    labels: `[B, h, w]` int64 clusters. Returns region_map `[B, H, W]` int32 on the batch's canvas (numbers 0..n-1 of
    each picture in the order of their first grid cells, 0 outside the picture), and the regions.
    """
    pieces = absorb_small(connected_components(labels), config.min_area * labels[0].numel())
    return number_regions(enlarge(pieces, images), images)


def enlarge(labels: Tensor, images: ImageBatch) -> Tensor:
    """Labels of the grid at full resolution: each pixel takes the label that weighs most among its four nearest cells.

    The weights are those of bilinear interpolation; of equal weights the first cell's label wins.
    labels: `[B, h, w]` int64. Returns `[B, H, W]` int64.
    """
    count, rows, columns = labels.shape
    height, width = images.pixels.shape[2:]
    top, bottom, down = _between(rows, height, images.sizes[:, 0])  # [B, H] each
    left, right, along = _between(columns, width, images.sizes[:, 1])  # [B, W] each
    flat = labels.flatten(1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(1, (row[:, :, None] * columns + column[:, None, :]).flatten(1)).view(count, height, width)

    down, along = down[:, :, None], along[:, None, :]
    corner = [at(top, left), at(top, right), at(bottom, left), at(bottom, right)]
    weight = [(1 - down) * (1 - along), (1 - down) * along, down * (1 - along), down * along]
    best, heaviest = corner[0], torch.zeros_like(weight[0])
    for label in corner:
        total = torch.zeros_like(heaviest)
        for other, share in zip(corner, weight, strict=True):
            total = total + torch.where(other == label, share, 0)
        best = torch.where(total > heaviest, label, best)
        heaviest = torch.maximum(total, heaviest)
    return best


def _between(cells: int, pixels: int, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells around each pixel's centre and the weight of the second, `[B, pixels]` each."""
    centre = (torch.arange(pixels, device=size.device) + 0.5) * (cells / size[:, None]) - 0.5
    centre = centre.clamp(0, cells - 1)
    low = centre.floor().long()
    return low, (low + 1).clamp_max(cells - 1), centre - low


def number_regions(labels: Tensor, images: ImageBatch) -> tuple[Tensor, Regions]:
    """Number the labels that a picture really shows 0..n-1 and measure them.

    labels: `[B, H, W]` int64 in [0, h * w). Returns region_map `[B, H, W]` int32 and the regions.
    """
    count, height, width = labels.shape
    span = int(labels.max()) + 1
    inside = images.inside
    key = labels + span * torch.arange(count, device=labels.device)[:, None, None]
    area = torch.bincount(key[inside], minlength=count * span)
    shown = area > 0
    flat = shown.cumsum(0) - 1  # place of each label among the regions of the batch
    key_of = shown.nonzero()[:, 0]
    image_index = key_of // span
    regions = len(key_of)

    number = torch.where(inside, flat[key], regions)  # [B, H, W], the last one collects the padding
    rows = torch.arange(height, device=labels.device)[:, None]
    columns = torch.arange(width, device=labels.device)
    y0, y1 = _extent(number * height + rows, regions, height)
    x0, x1 = _extent(number * width + columns, regions, width)
    boxes = torch.stack([x0, y0, x1, y1], dim=1)

    per_image = torch.bincount(image_index, minlength=count)
    before = per_image.cumsum(0) - per_image
    region_map = torch.where(inside, number - before[:, None, None], 0).to(torch.int32)
    return region_map, Regions(image_index, boxes, area[key_of])


def _extent(place: Tensor, regions: int, length: int) -> tuple[Tensor, Tensor]:
    """First and one past the last line that each region touches; `place` holds region * length + line."""
    touched = torch.zeros((regions + 1) * length, dtype=torch.uint8, device=place.device)
    touched[place.flatten()] = 1
    touched = touched.view(-1, length)[:regions]
    return touched.argmax(1), length - touched.flip(1).argmax(1)
