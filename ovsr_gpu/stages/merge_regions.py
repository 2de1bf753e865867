"""Merging of touching regions that have the same class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.results import LabelledRegions
from ovsr_gpu.runtime.timing import stage


@stage("region merging")
def merge_regions(regions: LabelledRegions, region_map: Tensor, images: ImageBatch) -> tuple[Tensor, LabelledRegions]:
    """Merge adjacent regions of the same class. The host waits for the new number of regions.

    Score, probabilities and embedding of a merged region are the means over its parts, weighted by area.

    Args:
        regions: N regions without empty slots.
        region_map: `[B, H, W]` int32.
        images: The batch.

    Returns:
        The region map with the new indices, in the order of each region's first part, and the merged regions.
    """
    offsets = regions.offsets(len(images))
    touching = adjacency(region_map, offsets, images.sizes, len(regions))
    component = first_reachable(touching & (regions.class_index[:, None] == regions.class_index))
    is_first = component == torch.arange(len(regions), device=component.device)
    first, target = is_first.nonzero()[:, 0], (is_first.cumsum(0) - 1)[component]  # [N'], [N]

    areas = torch.zeros_like(first).index_add_(0, target, regions.areas)
    fraction = regions.areas / areas[target].double()

    def mean(values: Tensor) -> Tensor:
        weighted = fraction.view(-1, *[1] * (values.ndim - 1)) * values
        return weighted.new_zeros(len(first), *values.shape[1:]).index_add_(0, target, weighted)

    def extreme(corners: Tensor, reduce: str) -> Tensor:
        return corners[first].scatter_reduce_(0, target[:, None].expand_as(corners), corners, reduce)

    merged = LabelledRegions(
        regions.image_index[first],
        torch.cat([extreme(regions.boxes[:, :2], "amin"), extreme(regions.boxes[:, 2:], "amax")], dim=1),
        areas,
        regions.class_index[first],
        mean(regions.score).float(),
        mean(regions.probabilities).float(),
        normalize(mean(regions.embeddings), dim=1).float(),
    )
    new_index = merged.index_in_image(len(images))[target].to(torch.int32)
    row = (offsets[:, None, None] + region_map).clamp_max(len(regions) - 1)  # values outside an image are arbitrary
    return new_index[row], merged


def adjacency(region_map: Tensor, offsets: Tensor, sizes: Tensor, num_regions: int) -> Tensor:
    """Return which regions are 4-adjacent, i.e. have pixels side by side or one above the other.

    Args:
        region_map: `[B, H, W]` int32.
        offsets: `[B]` int64, see `Regions.offsets`.
        sizes: `[B, 2]` int64, height and width of the images.
        num_regions: N.

    Returns:
        `[N, N]` bool, symmetric.
    """
    height, width = region_map.shape[1:]
    is_row = torch.arange(height, device=region_map.device)[:, None] < sizes[:, :1, None]
    is_column = torch.arange(width, device=region_map.device) < sizes[:, 1:, None]
    region = torch.where(is_row & is_column, offsets[:, None, None] + region_map, num_regions)
    touching = torch.zeros((num_regions + 1) ** 2, dtype=torch.bool, device=region_map.device)
    for second, first in ((region[:, 1:], region[:, :-1]), (region[:, :, 1:], region[:, :, :-1])):
        touching[(second * (num_regions + 1) + first).flatten()] = True
    touching = touching.view(num_regions + 1, num_regions + 1)[:-1, :-1]
    return touching | touching.T


def first_reachable(adjacent: Tensor) -> Tensor:
    """Return the lowest node that each node of a graph can reach, itself included.

    The adjacency matrix is squared repeatedly; each squaring doubles the length of the paths that it covers.

    Args:
        adjacent: `[N, N]` bool, symmetric.

    Returns:
        `[N]` int64.
    """
    num_nodes = len(adjacent)
    reach = (adjacent | torch.eye(num_nodes, dtype=torch.bool, device=adjacent.device)).float()
    for _ in range(max(num_nodes - 1, 0).bit_length()):
        reach = (reach @ reach).clamp_max(1)
    return reach.argmax(1)
