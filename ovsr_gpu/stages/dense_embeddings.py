"""Image embeddings of the regions out of one pass an image: CLIP's positions pooled under each region's mask."""

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


def pooled_embeddings(
    clip: ClipModel, images: ImageBatch, region_map: Tensor, regions: Regions, batch: NetworkBatch
) -> Tensor:
    """Unit embeddings of the regions, each the mean of the positions it covers: `[N, E]` float32.

    region_map: `[B, H, W]` int32. As many regions are pooled at a time as images go through CLIP together.

    Raises ModelError for an image tower without positions that can be read, see `dense_tower`.
    """
    tower = dense_tower(clip)
    features = position_features(tower, clip, images, batch)
    shares = cell_fractions(region_map, regions, images.sizes, features.shape[2:])
    pooled = pool_positions(features, shares, regions.image_index, batch.most)
    return normalize(tower.head(pooled.to(clip.dtype)).float(), dim=1)


@stage("image embeddings")
def position_features(tower: DenseTower, clip: ClipModel, images: ImageBatch, batch: NetworkBatch) -> Tensor:
    """Features of the images, squashed to CLIP's input: `[B, C, h, w]` float32."""
    inputs = (network_input(part, clip.image_size, clip.normalisation, clip.dtype) for part in images.split(batch.most))
    return torch.cat([batch.run(tower.features, pixels).float() for pixels in inputs])


@stage("pooling")
def cell_fractions(region_map: Tensor, regions: Regions, sizes: Tensor, grid: Sequence[int]) -> Tensor:
    """Fraction of each grid cell's pixels that belong to each region: `[N, h, w]` float32.

    The grid's cells cut an image into equal parts, and a pixel lies in the cell under its center; an image with fewer
    pixels than cells leaves some without any, and their shares are zero.

    region_map: `[B, H, W]` int32. sizes: `[B, 2]` int64, height and width of the images. grid: h, w.
    """
    height, width = grid
    row = _cell_of_pixels(region_map.shape[1], sizes[:, :1], height)[:, :, None]
    column = _cell_of_pixels(region_map.shape[2], sizes[:, 1:], width)[:, None, :]
    region = regions.firsts(len(sizes))[:, None, None] + region_map  # [B, H, W]
    inside = (row < height) & (column < width) & (region < len(regions))
    place = torch.where(inside, (region * height + row) * width + column, 0)
    pixels = torch.zeros(len(regions) * height * width, dtype=torch.int32, device=region_map.device)
    pixels = pixels.scatter_add_(0, place.flatten(), inside.flatten().int()).view(-1, height, width)
    in_image = pixels.new_zeros(len(sizes), height, width).index_add_(0, regions.image_index, pixels)
    return pixels / in_image[regions.image_index].clamp_min(1)


def _cell_of_pixels(pixels: int, size: Tensor, cells: int) -> Tensor:
    """Cell of each pixel of an axis, `cells` and more past the end of the image: `[B, pixels]` int64."""
    return (2 * torch.arange(pixels, device=size.device) + 1) * cells // (2 * size)


@stage("pooling")
def pool_positions(features: Tensor, shares: Tensor, image_index: Tensor, batch: int) -> Tensor:
    """Mean of each region's positions, weighted by the shares that it covers: `[N, C]` float32.

    features: `[B, C, h, w]` float32. shares: `[N, h, w]` float32. image_index: `[N]` int64.
    """
    positions = features.flatten(2).mT  # [B, P, C]
    weights = (shares / shares.sum((1, 2), keepdim=True)).flatten(1)[:, None]  # [N, 1, P]
    parts = zip(weights.split(batch), image_index.split(batch), strict=True)
    return torch.cat([(weight @ positions[index])[:, 0] for weight, index in parts])
