"""Regions: connected pieces of the clusters, at full resolution, with their boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.kernels.components import absorb_small, connected_components
from ovsr_gpu.structures import Regions
from ovsr_gpu.timing import stage

FINENESS = 4
"""How many times finer than the grid the regions' outlines are."""


@stage("regions")
def localise(labels: Tensor, images: ImageBatch, config: RegionConfig) -> tuple[Tensor, Regions]:
    """Regions of the clustered grid.

    labels: `[B, h, w]` int64 clusters. Returns region_map `[B, H, W]` int32 on the batch's canvas (numbers 0..n-1 of
    each picture in the order of their first grid cells; outside the picture its values mean nothing), and the regions.
    """
    pieces = absorb_small(connected_components(labels), config.min_area * labels[0].numel())
    outlines = refine(pieces)
    rows = _Lines.of(outlines.shape[1], images.pixels.shape[2], images.sizes[:, 0])
    columns = _Lines.of(outlines.shape[2], images.pixels.shape[3], images.sizes[:, 1])
    numbers, regions = measure(outlines, rows, columns)
    by_row = numbers.gather(1, rows.cell[:, :, None].expand(-1, -1, numbers.shape[2]))  # [B, H, w]
    return by_row.gather(2, columns.cell[:, None, :].expand(-1, by_row.shape[1], -1)), regions


def refine(labels: Tensor) -> Tensor:
    """Labels on a grid FINENESS times finer: each fine cell takes the label that weighs most among its nearest four.

    The weights are those of bilinear interpolation; of equal weights the upper, then the left one wins.
    labels: `[B, h, w]` int64. Returns `[B, FINENESS * h, FINENESS * w]` int64.
    """
    top, bottom, down = _between(labels.shape[1], labels.device)
    left, right, along = _between(labels.shape[2], labels.device)
    corner = [labels[:, row[:, None], column] for row in (top, bottom) for column in (left, right)]
    weight = [y[:, None] * x for y in (1 - down, down) for x in (1 - along, along)]
    votes = [
        torch.stack([torch.where(other == label, share, 0) for other, share in zip(corner, weight, strict=True)]).sum(0)
        for label in corner
    ]
    winner = torch.stack(votes).argmax(0, keepdim=True)
    return torch.stack(corner).gather(0, winner)[0]


def _between(cells: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells around each fine cell's centre and the weight of the second, `[FINENESS * cells]` each."""
    centre = (torch.arange(FINENESS * cells, device=device) + 0.5) / FINENESS - 0.5
    centre = centre.clamp(0, cells - 1)
    low = centre.floor().long()
    return low, (low + 1).clamp_max(cells - 1), centre - low


class _Lines:
    """Which grid cells the pixels of one axis lie in.

    cell: `[B, pixels]` int64, the cell under each pixel's centre. start, stop: `[B, cells]` int64, the pixels of each
    cell; a picture with fewer pixels than cells leaves some without any.
    """

    def __init__(self, cell: Tensor, start: Tensor, stop: Tensor) -> None:
        self.cell, self.start, self.stop = cell, start, stop

    @classmethod
    def of(cls, cells: int, pixels: int, size: Tensor) -> _Lines:
        pixel = torch.arange(pixels, device=size.device)
        cell = ((2 * pixel + 1) * cells // (2 * size[:, None])).clamp_max(cells - 1)  # [B, pixels]
        inside = (pixel < size[:, None]).long()
        stop = torch.zeros(len(size), cells, dtype=torch.int64, device=size.device).scatter_add_(1, cell, inside)
        stop = stop.cumsum(1)
        return cls(cell, torch.cat([torch.zeros_like(stop[:, :1]), stop[:, :-1]], dim=1), stop)


def measure(labels: Tensor, rows: _Lines, columns: _Lines) -> tuple[Tensor, Regions]:
    """Number the labels that a picture really shows 0..n-1, and measure them in its pixels.

    labels: `[B, h, w]` int64 in [0, h * w). Returns the numbers `[B, h, w]` int32 and the regions.
    """
    images, height, width = labels.shape
    key = labels + height * width * torch.arange(images, device=labels.device)[:, None, None]
    pixels = (rows.stop - rows.start)[:, :, None] * (columns.stop - columns.start)[:, None, :]
    area = key.new_zeros(images * height * width).scatter_add_(0, key.flatten(), pixels.flatten())
    shown = area.nonzero()[:, 0]
    image_index = shown // (height * width)
    place = torch.full_like(area, len(shown)).scatter_(0, shown, torch.arange(len(shown), device=shown.device))
    region = torch.where(pixels > 0, place[key], len(shown))  # [B, h, w], the last one collects the cells not shown

    y0, y1 = _extent(region.flatten(1, 2), rows, image_index, torch.arange(height * width, device=key.device) // width)
    x0, x1 = _extent(
        region.flatten(1, 2), columns, image_index, torch.arange(height * width, device=key.device) % width
    )
    regions = Regions(image_index, torch.stack([x0, y0, x1, y1], dim=1), area[shown])
    before = regions.firsts(images)[:, None, None]
    return torch.where(pixels > 0, region - before, 0).to(torch.int32), regions


def _extent(region: Tensor, lines: _Lines, image_index: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last pixel of each region along an axis; `line` is the axis' cell of every grid cell."""
    cells = lines.start.shape[1]
    touched = torch.zeros((len(image_index) + 1) * cells, dtype=torch.uint8, device=region.device)
    touched[(region * cells + line).flatten()] = 1
    touched = touched.view(-1, cells)[:-1]
    first, last = touched.argmax(1), cells - 1 - touched.flip(1).argmax(1)
    return lines.start[image_index, first], lines.stop[image_index, last]
