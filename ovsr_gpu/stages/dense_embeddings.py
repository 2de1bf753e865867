"""Region embeddings from one CLIP pass per image: the tower's patch features pooled under each region's mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.models.dense_tower import DenseTower, dense_tower
from ovsr_gpu.models.network_batch import NetworkBatch
from ovsr_gpu.results import Regions
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.stages.features import network_input
from ovsr_gpu.stages.grid_cells import cell_of_pixels


def pooled_embeddings(
    clip: ClipModel, images: ImageBatch, region_map: Tensor, regions: Regions, batch: NetworkBatch
) -> Tensor:
    """Return unit embeddings of the regions, each from the mean of the patch features it covers.

    Args:
        clip: The model.
        images: The batch.
        region_map: `[B, H, W]` int32.
        regions: N regions of the batch.
        batch: Number of images per forward pass, and of regions pooled at a time.

    Returns:
        `[N, E]` float32.

    Raises:
        ModelError: The image tower does not expose patch features, see `dense_tower`.
    """
    tower = dense_tower(clip)
    features = patch_features(tower, clip, images, batch)
    fractions = cell_fractions(region_map, regions, images.sizes, features.shape[2:])
    pooled = pool_patches(features, fractions, regions.image_index, batch.max_rows)
    return normalize(tower.head(pooled.to(clip.dtype)).float(), dim=1)


@stage("image embeddings")
def patch_features(tower: DenseTower, clip: ClipModel, images: ImageBatch, batch: NetworkBatch) -> Tensor:
    """Return the patch features of the images, squashed to CLIP's input size.

    Args:
        tower: The image tower of `clip`, see `dense_tower`.
        clip: The model.
        images: The batch.
        batch: Number of images per forward pass.

    Returns:
        `[B, C, h, w]` float32.
    """
    parts = images.split(batch.max_rows)
    inputs = (network_input(part, clip.image_size, clip.normalisation, clip.dtype) for part in parts)
    return torch.cat([batch.run(tower.features, pixels).float() for pixels in inputs])


@stage("pooling")
def cell_fractions(region_map: Tensor, regions: Regions, sizes: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the fraction of each grid cell's pixels that belong to each region.

    A pixel belongs to the cell under its center. An image with fewer pixels than cells has empty cells; their fractions
    are zero.

    Args:
        region_map: `[B, H, W]` int32.
        regions: N regions of the batch.
        sizes: `[B, 2]` int64, height and width of the images.
        grid: (h, w).

    Returns:
        `[N, h, w]` float32.
    """
    height, width = grid
    row = cell_of_pixels(region_map.shape[1], sizes[:, 0], height)[:, :, None]
    column = cell_of_pixels(region_map.shape[2], sizes[:, 1], width)[:, None, :]
    region = regions.offsets(len(sizes))[:, None, None] + region_map  # [B, H, W]
    is_inside = (row < height) & (column < width) & (region < len(regions))
    cell = torch.where(is_inside, (region * height + row) * width + column, 0)
    pixels = torch.zeros(len(regions) * height * width, dtype=torch.int32, device=region_map.device)
    pixels = pixels.scatter_add_(0, cell.flatten(), is_inside.flatten().int()).view(-1, height, width)
    image_pixels = pixels.new_zeros(len(sizes), height, width).index_add_(0, regions.image_index, pixels)
    return pixels / image_pixels[regions.image_index].clamp_min(1)


@stage("pooling")
def pool_patches(features: Tensor, fractions: Tensor, image_index: Tensor, batch: int) -> Tensor:
    """Return the mean of the patch features that each region covers, weighted by the covered fractions.

    Args:
        features: `[B, C, h, w]` float32.
        fractions: `[N, h, w]` float32.
        image_index: `[N]` int64.
        batch: Number of regions pooled at a time.

    Returns:
        `[N, C]` float32.
    """
    patches = features.flatten(2).mT  # [B, P, C]
    weights = (fractions / fractions.sum((1, 2), keepdim=True)).flatten(1)[:, None]  # [N, 1, P]
    parts = zip(weights.split(batch), image_index.split(batch), strict=True)
    return torch.cat([(weight @ patches[index])[:, 0] for weight, index in parts])
