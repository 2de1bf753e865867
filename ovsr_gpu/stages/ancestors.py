"""Ancestor regions: the unions of regions that the dendrogram merges above the cut.

A number of clusters that suits one kind of image is too low or too high for another. Here the dendrogram is cut into
many clusters, the ancestors of their regions are embedded as well, and each region is classified by the weighted mean
over itself and its ancestors: a wheel, both wheels, the car, the street. Touching regions of the same class can be
merged afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.trees import MergeTree, joined_clusters
from ovsr_gpu.results import AncestorRegions, Regions, RegionTable, compact_regions
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.stages.regions import grid_components, project_to_images


@stage("regions")
def extract_with_ancestors(
    labels: Tensor, dendrogram: MergeTree, count: Tensor, images: ImageBatch, max_clusters: int, config: RegionConfig
) -> tuple[Tensor, RegionTable[Regions], RegionTable[AncestorRegions]]:
    """Extract the regions of the clustered grid and their ancestors in the dendrogram.

    The regions are those of `extract_regions` in another order: regions that share an ancestor are consecutive. A
    region belongs to the cluster of most of its cells, the lowest one if several are equally frequent. An ancestor is
    the set of all regions of a cluster, or of all clusters of a merge above the cut; sets of fewer than two regions are
    left out, and each set occurs once.

    Args:
        labels: `[B, h, w]` int64, the cluster of each grid cell.
        dendrogram: The dendrogram of each image.
        count: `[B]` int64, the number of clusters of each image.
        images: The batch.
        max_clusters: Maximum of `count`.
        config: Settings of the regions.

    Returns:
        The region map `[B, H, W]` int32, the table of the regions and the table of their ancestors.
    """
    grid, (num_images, num_cells) = labels.shape, labels.flatten(1).shape
    max_clusters = min(max_clusters, num_cells)
    joined = joined_clusters(dendrogram.children, count, max_clusters)
    components = grid_components(labels, config).flatten(1)  # [B, P]
    votes = labels.new_zeros(num_images, num_cells * max_clusters)
    votes.scatter_add_(1, components * max_clusters + labels.flatten(1), torch.ones_like(components))
    cluster = votes.view(num_images, num_cells, max_clusters).argmax(2)  # [B, P], of each component

    order = joined.keys.gather(1, cluster).argsort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(num_cells, device=order.device).expand_as(order))
    region_map, table, component = project_to_images(rank.gather(1, components).view(grid), images, config)
    cluster = cluster.gather(1, order)[table.regions.image_index, component]
    return region_map, table, _ancestors(table.regions, cluster, joined.sides, num_images)


def _ancestors(regions: Regions, cluster: Tensor, sides: Tensor, num_images: int) -> RegionTable[AncestorRegions]:
    """Return the ancestors, given the cluster of each region and `JoinedClusters.sides` `[B, K-1, K]`."""
    num_clusters = sides.shape[2]
    is_filled = regions.areas > 0
    slot = regions.image_index * num_clusters + cluster
    index = torch.where(is_filled, regions.index_in_image(num_images), 0)
    infinity = torch.iinfo(torch.int64).max

    def sum_by_cluster(values: Tensor) -> Tensor:
        sums = torch.zeros(num_images * num_clusters, dtype=torch.int64, device=slot.device)
        return sums.scatter_add_(0, slot, values).view(num_images, 1, num_clusters)

    # The minimum index, x0, y0, -x1, -y1 and -index over the regions of each cluster.
    extents = torch.stack([index, *regions.boxes[:, :2].unbind(1), *(-regions.boxes[:, 2:]).unbind(1), -index])
    extents = torch.where(is_filled, extents, infinity)
    cluster_extents = torch.full((6, num_images * num_clusters), infinity, device=slot.device)
    cluster_extents.scatter_reduce_(1, slot.expand_as(extents), extents, "amin")
    count, area = sum_by_cluster(is_filled.long()), sum_by_cluster(regions.areas)

    clusters = torch.eye(num_clusters, dtype=torch.bool, device=slot.device).expand(num_images, -1, -1)
    members = torch.cat([clusters, sides > 0], dim=1)  # [B, 2K-1, K]
    joins_regions = ((sides == 1) & (count > 0)).any(2) & ((sides == 2) & (count > 0)).any(2)
    is_ancestor = torch.cat([count[:, 0] > 1, joins_regions], dim=1).flatten()  # [B * (2K-1)]

    cluster_extents = cluster_extents.view(6, num_images, 1, num_clusters)
    merged_extents = torch.where(members, cluster_extents, infinity).amin(3).flatten(1)  # [6, B * (2K-1)]
    areas = torch.where(members, area, 0).sum(2).flatten()
    first, x0, y0, x1, y1, last = merged_extents
    image_index = torch.arange(num_images, device=slot.device).repeat_interleave(members.shape[1])
    boxes, span = torch.stack([x0, y0, -x1, -y1], dim=1), torch.stack([first, 1 - last], dim=1)
    return compact_regions(AncestorRegions(image_index, boxes, areas, span), is_ancestor, num_images)[0]


def append_ancestors(regions: Regions, ancestors: AncestorRegions, num_images: int) -> AncestorRegions:
    """Return the regions followed by their ancestors.

    Args:
        regions: N regions.
        ancestors: Their ancestors.
        num_images: B.

    Returns:
        M regions; the span of each of the first N is its own index.
    """
    leaves = AncestorRegions(regions.image_index, regions.boxes, regions.areas, regions.spans(num_images))
    return AncestorRegions(
        *(torch.cat(columns) for columns in zip(vars(leaves).values(), vars(ancestors).values(), strict=True))
    )


@stage("ancestor mean")
def mean_over_ancestors(regions: Regions, nodes: AncestorRegions, embeddings: Tensor, num_images: int) -> Tensor:
    """Return the weighted mean embedding of each region's nodes: the region itself and its ancestors.

    The weight of a node is 1 / sqrt(area), so that smaller nodes count more.

    Args:
        regions: N regions.
        nodes: The M regions and ancestors of `append_ancestors`.
        embeddings: `[M, E]` float32, unit rows, of the nodes.
        num_images: B.

    Returns:
        `[N, E]` float32, unit rows, zero for empty slots.
    """
    index = regions.index_in_image(num_images)[:, None]
    same_image = regions.image_index[:, None] == nodes.image_index
    is_inside = same_image & (nodes.span[:, 0] <= index) & (index < nodes.span[:, 1])
    node_weight = nodes.areas.clamp_min(1).double().rsqrt()
    weights = torch.where(is_inside & (regions.areas[:, None] > 0), node_weight, 0)  # [N, M]
    return normalize(weights @ embeddings.double(), dim=1).float()
