"""Regions: connected components of the clusters, at full resolution, with their boxes and areas."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.components import absorb_small, connected_components
from ovsr_gpu.kernels.crop_resize import Normalisation
from ovsr_gpu.results import Regions, RegionTable, compact_regions
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.stages.features import network_input
from ovsr_gpu.stages.grid_cells import cell_of_pixels
from ovsr_gpu.stages.upsampling import majority_filter, upsample_bilinear, upsample_joint_bilateral

UPSAMPLING_FACTOR = 4
"""How many times finer than the grid the boundaries of the regions are."""
UNIT_RANGE = Normalisation((0, 0, 0), (1, 1, 1))
"""Scales pixel values to [0, 1] and changes nothing else."""


@stage("regions")
def extract_regions(labels: Tensor, images: ImageBatch, config: RegionConfig) -> tuple[Tensor, RegionTable[Regions]]:
    """Extract the regions of the clustered grid.

    Args:
        labels: `[B, h, w]` int64, the cluster of each grid cell.
        images: The batch.
        config: Settings of the regions.

    Returns:
        The region map, `[B, H, W]` int32 on the canvas of the batch: indices 0..n-1 in each image, in the order of the
        regions' first grid cells; values outside the image are arbitrary. And the table of the regions, with one slot
        for each grid cell of the batch.
    """
    region_map, table, _ = project_to_images(grid_components(labels, config), images, config)
    return region_map, table


def grid_components(labels: Tensor, config: RegionConfig) -> Tensor:
    """Return the connected components of the clusters on the grid, after small ones have been absorbed.

    Args:
        labels: `[B, h, w]` int64, the cluster of each grid cell.
        config: Settings of the regions.

    Returns:
        `[B, h, w]` int64, numbered by first cell.
    """
    return absorb_small(connected_components(labels), config.min_area * labels[0].numel())


def project_to_images(
    components: Tensor, images: ImageBatch, config: RegionConfig
) -> tuple[Tensor, RegionTable[Regions], Tensor]:
    """Bring components of the grid to the resolution of the images and measure them.

    Components without a pixel (in images smaller than the grid) are dropped; the others keep their order.

    Args:
        components: `[B, h, w]` int64 in [0, h * w).
        images: The batch.
        config: Settings of the regions.

    Returns:
        Region map and table as in `extract_regions`, and for each slot of the table its component, int64.
    """
    fine = upsample_components(components, images, config)
    rows = _axis_cells(fine.shape[1], images.pixels.shape[2], images.sizes[:, 0])
    columns = _axis_cells(fine.shape[2], images.pixels.shape[3], images.sizes[:, 1])
    index, table, component = _measure_regions(fine, components[0].numel(), rows, columns)
    by_row = index.gather(1, rows.cell[:, :, None].expand(-1, -1, index.shape[2]))  # [B, H, w]
    return by_row.gather(2, columns.cell[:, None, :].expand(-1, by_row.shape[1], -1)), table, component


def upsample_components(components: Tensor, images: ImageBatch, config: RegionConfig) -> Tensor:
    """Return the components on a grid UPSAMPLING_FACTOR times finer, see `RegionConfig.boundaries`.

    Args:
        components: `[B, h, w]` int64.
        images: The batch.
        config: Settings of the regions.

    Returns:
        `[B, UPSAMPLING_FACTOR * h, UPSAMPLING_FACTOR * w]` int64.
    """
    if config.boundaries == "grid":
        return upsample_bilinear(components, UPSAMPLING_FACTOR)
    side = 2 * components.shape[1]
    guided = upsample_joint_bilateral(components, network_input(images, side, UNIT_RANGE))
    return upsample_bilinear(majority_filter(guided), UPSAMPLING_FACTOR // 2)


class _AxisCells(NamedTuple):
    """Grid cells and pixels along one axis.

    cell: `[B, pixels]` int64, the cell under each pixel's center.
    start, stop: `[B, cells]` int64, the pixels of each cell; an image with fewer pixels than cells has empty cells.
    """

    cell: Tensor
    start: Tensor
    stop: Tensor


def _axis_cells(num_cells: int, num_pixels: int, size: Tensor) -> _AxisCells:
    """Relate the cells of the grid to the pixels of images of `size` `[B]` along one axis."""
    cell = cell_of_pixels(num_pixels, size, num_cells).clamp_max(num_cells - 1)
    is_inside = (torch.arange(num_pixels, device=size.device) < size[:, None]).long()
    counts = torch.zeros(len(size), num_cells, dtype=torch.int64, device=size.device).scatter_add_(1, cell, is_inside)
    stop = counts.cumsum(1)
    return _AxisCells(cell, torch.cat([torch.zeros_like(stop[:, :1]), stop[:, :-1]], dim=1), stop)


def _measure_regions(
    labels: Tensor, num_labels: int, rows: _AxisCells, columns: _AxisCells
) -> tuple[Tensor, RegionTable[Regions], Tensor]:
    """Number the labels that have pixels 0..n-1 in each image, and measure their areas and boxes in pixels.

    Takes `[B, h, w]` int64 labels in [0, `num_labels`). Returns the indices `[B, h, w]` int32, a table of
    B * `num_labels` slots, and the label of each slot.
    """
    num_images = len(labels)
    slots = torch.arange(num_images * num_labels, device=labels.device)
    label = labels + slots[::num_labels, None, None]  # unique in the batch
    pixels = (rows.stop - rows.start)[:, :, None] * (columns.stop - columns.start)[:, None, :]
    area = torch.zeros_like(slots).scatter_add_(0, label.flatten(), pixels.flatten())
    is_visible = area > 0
    region = is_visible.cumsum(0) - 1

    counts = is_visible.view(num_images, num_labels).sum(1)
    offsets = (counts.cumsum(0) - counts)[:, None, None]
    index = torch.where(pixels > 0, region[label] - offsets, 0).to(torch.int32)

    # The minimum x0, y0, -x1 and -y1 over the cells of each label.
    sides = (columns.start[:, None, :], rows.start[:, :, None], -columns.stop[:, None, :], -rows.stop[:, :, None])
    infinity = torch.iinfo(torch.int64).max
    extents = torch.stack([torch.where(pixels > 0, side, infinity) for side in sides]).flatten(1)  # [4, B * h * w]
    boxes = torch.full((4, len(slots)), infinity, device=labels.device)
    boxes.scatter_reduce_(1, label.flatten().expand_as(extents), extents, "amin")

    x0, y0, x1, y1 = boxes
    regions = Regions(slots // num_labels, torch.stack([x0, y0, -x1, -y1], dim=1), area)
    table, source = compact_regions(regions, is_visible, num_images)
    return index, table, source % num_labels
