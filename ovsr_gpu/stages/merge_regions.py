"""Uniting: named regions of one class that touch become one region."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.results import LabelledRegions
from ovsr_gpu.runtime.timing import stage


@stage("uniting")
def merge_regions(regions: LabelledRegions, region_map: Tensor, images: ImageBatch) -> tuple[Tensor, LabelledRegions]:
    """Unite the regions of one class that share a border; the host reads how many remain.

    Score, probabilities and embedding of a united region are the means over its parts, weighted by their areas.
    regions: without empty slots. region_map: `[B, H, W]` int32. Returns the map with the new numbers, in the order of
    each region's first part, and the united regions.
    """
    firsts = regions.firsts(len(images))
    touching = borders(region_map, firsts, images.sizes, len(regions))
    head = first_reachable(touching & (regions.class_index[:, None] == regions.class_index))
    is_head = head == torch.arange(len(regions), device=head.device)
    heads, united = is_head.nonzero()[:, 0], (is_head.cumsum(0) - 1)[head]  # [N'], [N]

    areas = torch.zeros_like(heads).index_add_(0, united, regions.areas)
    fraction = regions.areas / areas[united].double()

    def mean(values: Tensor) -> Tensor:
        weighted = fraction.view(-1, *[1] * (values.ndim - 1)) * values
        return weighted.new_zeros(len(heads), *values.shape[1:]).index_add_(0, united, weighted)

    def extreme(corners: Tensor, kind: str) -> Tensor:
        return corners[heads].scatter_reduce_(0, united[:, None].expand_as(corners), corners, kind)

    labelled = LabelledRegions(
        regions.image_index[heads],
        torch.cat([extreme(regions.boxes[:, :2], "amin"), extreme(regions.boxes[:, 2:], "amax")], dim=1),
        areas,
        regions.class_index[heads],
        mean(regions.score).float(),
        mean(regions.probabilities).float(),
        normalize(mean(regions.embeddings), dim=1).float(),
    )
    numbers = labelled.numbers(len(images))[united].to(torch.int32)
    place = (firsts[:, None, None] + region_map).clamp_max(len(regions) - 1)  # past an image's edge anything goes
    return numbers[place], labelled


def borders(region_map: Tensor, firsts: Tensor, sizes: Tensor, regions: int) -> Tensor:
    """Which of the N regions share a border, a pixel of one beside or above one of the other: `[N, N]` bool, symmetric.

    region_map: `[B, H, W]` int32. firsts: `[B]` int64, the place of each image's first region. sizes: `[B, 2]` int64.
    """
    height, width = region_map.shape[1:]
    row = torch.arange(height, device=region_map.device)[:, None] < sizes[:, :1, None]
    column = torch.arange(width, device=region_map.device) < sizes[:, 1:, None]
    region = torch.where(row & column, firsts[:, None, None] + region_map, regions)
    touching = torch.zeros((regions + 1) ** 2, dtype=torch.bool, device=region_map.device)
    for here, there in ((region[:, 1:], region[:, :-1]), (region[:, :, 1:], region[:, :, :-1])):
        touching[(here * (regions + 1) + there).flatten()] = True
    touching = touching.view(regions + 1, regions + 1)[:-1, :-1]
    return touching | touching.T


def first_reachable(joined: Tensor) -> Tensor:
    """The first node that each node of a graph reaches, itself included: `[N]` int64.

    joined: `[N, N]` bool, symmetric. The reach doubles with every squaring of the matrix.
    """
    nodes = len(joined)
    reach = (joined | torch.eye(nodes, dtype=torch.bool, device=joined.device)).float()
    for _ in range(max(nodes - 1, 0).bit_length()):
        reach = (reach @ reach).clamp_max(1)
    return reach.argmax(1)
