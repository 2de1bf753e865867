"""Regions: connected pieces of the clusters, at full resolution, with their boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.components import absorb_small, connected_components
from ovsr_gpu.kernels.crop_resize import Normalisation
from ovsr_gpu.results import Regions, RegionTable, wanted_first
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.stages.features import network_input
from ovsr_gpu.stages.upsampling import bilinear, joint_bilateral, majority

FINENESS = 4
"""How many times finer than the grid the regions' outlines are."""
GRAY_VALUES = Normalisation((0, 0, 0), (1, 1, 1))
"""Of images from 0 to 1."""


@stage("regions")
def extract_regions(labels: Tensor, images: ImageBatch, config: RegionConfig) -> tuple[Tensor, RegionTable[Regions]]:
    """Regions of the clustered grid.

    labels: `[B, h, w]` int64 clusters. Returns region_map `[B, H, W]` int32 on the batch's canvas (numbers 0..n-1 of
    each image in the order of their first grid cells; outside the image its values mean nothing), and the regions
    in a table with room for all that a grid can have.
    """
    region_map, table, _ = outline(connected_pieces(labels, config), images, config)
    return region_map, table


def connected_pieces(labels: Tensor, config: RegionConfig) -> Tensor:
    """The clusters' connected pieces on the grid, small ones absorbed: `[B, h, w]` int64, numbered by first cell."""
    return absorb_small(connected_components(labels), config.min_area * labels[0].numel())


def outline(pieces: Tensor, images: ImageBatch, config: RegionConfig) -> tuple[Tensor, RegionTable[Regions], Tensor]:
    """Draw pieces of the grid on the images, numbered anew in their order where a small image does not show all.

    pieces: `[B, h, w]` int64 in [0, h * w). Returns region_map and table as `extract_regions` does, and for each slot of the
    table the number that its piece had, int64.
    """
    outlines = finer(pieces, images, config)
    rows = _Lines.of(outlines.shape[1], images.pixels.shape[2], images.sizes[:, 0])
    columns = _Lines.of(outlines.shape[2], images.pixels.shape[3], images.sizes[:, 1])
    numbers, table, piece = measure(outlines, pieces[0].numel(), rows, columns)
    by_row = numbers.gather(1, rows.cell[:, :, None].expand(-1, -1, numbers.shape[2]))  # [B, H, w]
    return by_row.gather(2, columns.cell[:, None, :].expand(-1, by_row.shape[1], -1)), table, piece


def finer(pieces: Tensor, images: ImageBatch, config: RegionConfig) -> Tensor:
    """The pieces on a grid FINENESS times finer, their outlines as `config.boundaries` says: int64."""
    if config.boundaries == "grid":
        return bilinear(pieces, FINENESS)
    side = 2 * pieces.shape[1]
    drawn = joint_bilateral(pieces, network_input(images, side, GRAY_VALUES))
    return bilinear(majority(drawn), FINENESS // 2)


class _Lines:
    """Which grid cells the pixels of one axis lie in.

    cell: `[B, pixels]` int64, the cell under each pixel's center. start, stop: `[B, cells]` int64, the pixels of each
    cell; an image with fewer pixels than cells leaves some without any.
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


def measure(labels: Tensor, most: int, rows: _Lines, columns: _Lines) -> tuple[Tensor, RegionTable[Regions], Tensor]:
    """Number the labels that an image really shows 0..n-1, and measure them in its pixels.

    labels: `[B, h, w]` int64 in [0, `most`). Returns the numbers `[B, h, w]` int32, a table of B * `most` slots, and
    the label of each slot.
    """
    images = len(labels)
    slots = images * most
    place = torch.arange(slots, device=labels.device)
    label = labels + place[::most, None, None]  # unique in the batch
    pixels = (rows.stop - rows.start)[:, :, None] * (columns.stop - columns.start)[:, None, :]
    area = torch.zeros_like(place).scatter_add_(0, label.flatten(), pixels.flatten())
    shown = area > 0
    region = shown.cumsum(0) - 1

    counts = shown.view(images, most).sum(1)
    before = (counts.cumsum(0) - counts)[:, None, None]
    numbers = torch.where(pixels > 0, region[label] - before, 0).to(torch.int32)

    # The least x0, y0, -x1 and -y1 of the cells of each label.
    sides = (columns.start[:, None, :], rows.start[:, :, None], -columns.stop[:, None, :], -rows.stop[:, :, None])
    far = torch.iinfo(torch.int64).max
    extents = torch.stack([torch.where(pixels > 0, side, far) for side in sides]).flatten(1)  # [4, B * h * w]
    boxes = torch.full((4, slots), far, device=labels.device)
    boxes.scatter_reduce_(1, label.flatten().expand_as(extents), extents, "amin")

    x0, y0, x1, y1 = boxes
    regions = Regions(place // most, torch.stack([x0, y0, -x1, -y1], dim=1), area)
    table, origin = wanted_first(regions, shown, images)
    return numbers, table, origin % most
