"""Nested regions: fine regions and their unions up the dendrogram, so that the names can say how far to cut it.

A number of clusters fitted to one kind of image cuts another kind too coarsely or too finely. Here the cut is fine,
every union that a merge above it makes is encoded as well, and each region takes its name from all that it is part of:
a wheel alone, the wheels together, the car, the street. Regions of one name that touch are united in the end.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.trees import MergeTree, joined_clusters
from ovsr_gpu.results import AncestorRegions, Regions, RegionTable, wanted_first
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.stages.regions import connected_pieces, outline


@stage("regions")
def extract_with_ancestors(
    labels: Tensor, dendrogram: MergeTree, count: Tensor, images: ImageBatch, most: int, config: RegionConfig
) -> tuple[Tensor, RegionTable[Regions], RegionTable[AncestorRegions]]:
    """Regions of the clustered grid as `extract_regions` has them, but numbered in the order of the dendrogram, and unions.

    labels: `[B, h, w]` int64, the `count` `[B]` clusters of the dendrogram, at most `most`. A region belongs to the
    cluster that most of its cells have, of equals the lowest. The unions are those of two regions or more that the
    clusters and the merges above the cut make, each once; the regions themselves are not among them.
    """
    grid, (images_count, cells) = labels.shape, labels.flatten(1).shape
    most = min(most, cells)
    joined = joined_clusters(dendrogram.children, count, most)
    pieces = connected_pieces(labels, config).flatten(1)  # [B, P]
    votes = labels.new_zeros(images_count, cells * most)
    votes.scatter_add_(1, pieces * most + labels.flatten(1), torch.ones_like(pieces))
    cluster = votes.view(images_count, cells, most).argmax(2)  # [B, P], of each piece

    order = joined.keys.gather(1, cluster).argsort(dim=1, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(cells, device=order.device).expand_as(order))
    region_map, table, piece = outline(place.gather(1, pieces).view(grid), images, config)
    cluster = cluster.gather(1, order)[table.regions.image_index, piece]
    return region_map, table, _unions(table, cluster, joined.sides, images_count)


def _unions(table: RegionTable[Regions], cluster: Tensor, sides: Tensor, images: int) -> RegionTable[AncestorRegions]:
    """The unions of regions, given the cluster of each slot of the table and `JoinedClusters.sides` `[B, K-1, K]`."""
    regions, most = table.regions, sides.shape[2]
    there = regions.areas > 0
    slot = regions.image_index * most + cluster
    place = torch.where(there, regions.numbers(images), 0)
    far = torch.iinfo(torch.int64).max

    def sum_up(values: Tensor) -> Tensor:
        return torch.zeros(images * most, dtype=torch.int64, device=slot.device).scatter_add_(0, slot, values)

    # The least number, x0, y0, -x1, -y1 and -number of the regions of each cluster.
    corner = torch.stack([place, *regions.boxes[:, :2].unbind(1), *(-regions.boxes[:, 2:]).unbind(1), -place])
    corner = torch.where(there, corner, far)
    extents = torch.full((6, images * most), far, device=slot.device)
    extents.scatter_reduce_(1, slot.expand_as(corner), corner, "amin")
    count, area = (sum_up(values).view(images, 1, most) for values in (there.long(), regions.areas))

    clusters = torch.eye(most, dtype=torch.bool, device=slot.device).expand(images, -1, -1)
    joins = torch.cat([clusters, sides > 0], dim=1)  # [B, 2K-1, K]
    two_sided = ((sides == 1) & (count > 0)).any(2) & ((sides == 2) & (count > 0)).any(2)
    wanted = torch.cat([count[:, 0] > 1, two_sided], dim=1).flatten()  # [B * (2K-1)]

    joint = torch.where(joins, extents.view(6, images, 1, most), far).amin(3).flatten(1)  # [6, B * (2K-1)]
    areas = torch.where(joins, area, 0).sum(2).flatten()
    first, x0, y0, x1, y1, last = joint
    image = torch.arange(images, device=slot.device).repeat_interleave(joins.shape[1])
    boxes, span = torch.stack([x0, y0, -x1, -y1], dim=1), torch.stack([first, 1 - last], dim=1)
    return wanted_first(AncestorRegions(image, boxes, areas, span), wanted, images)[0]


def with_ancestors(regions: Regions, unions: AncestorRegions, images: int) -> AncestorRegions:
    """The regions and after them their unions."""
    own = AncestorRegions(regions.image_index, regions.boxes, regions.areas, regions.spans(images))
    return AncestorRegions(
        *(torch.cat(columns) for columns in zip(vars(own).values(), vars(unions).values(), strict=True))
    )


@stage("nesting")
def mean_over_ancestors(regions: Regions, nests: AncestorRegions, embeddings: Tensor, images: int) -> Tensor:
    """Unit embeddings of the regions, each the mean over the nests that it lies in: `[N, E]` float32, zero if empty.

    The weight of a nest is the root of its area's reciprocal, so that the smallest say the most.
    embeddings: `[M, E]` float32, unit rows, of the nests.
    """
    number = regions.numbers(images)[:, None]
    inside = (
        (regions.image_index[:, None] == nests.image_index) & (nests.span[:, 0] <= number) & (number < nests.span[:, 1])
    )
    weights = torch.where(inside & (regions.areas[:, None] > 0), nests.areas.clamp_min(1).double().rsqrt(), 0)  # [N, M]
    return normalize(weights @ embeddings.double(), dim=1).float()
