"""Pixel features: several EfficientNet blocks on one grid."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovsr_gpu.config import FeatureConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.crop_resize import Normalisation, crop_resize
from ovsr_gpu.models.network_batch import NetworkBatch, float32_convolutions
from ovsr_gpu.runtime.timing import stage

IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@stage("features")
def pixel_features(backbone: nn.Sequential, images: ImageBatch, config: FeatureConfig, batch: NetworkBatch) -> Tensor:
    """Return the features of every grid cell.

    Each image is squashed to the network's square input. Each level is scaled to unit root mean square over the image,
    so that no level dominates by its scale alone, and resized to the grid. The features of an image of one color are
    set to zero, because they would come only from the zero padding at its borders.

    Args:
        backbone: The blocks of EfficientNet.
        images: The batch.
        config: Levels, input size and grid size.
        batch: Number of images per forward pass.

    Returns:
        `[B, C, h, w]` float32, h = w = `config.grid_size`.
    """
    inputs = (network_input(part, config.input_size) for part in images.split(batch.max_rows))
    with float32_convolutions():
        return torch.cat([batch.run(partial(_levels_on_grid, backbone, config), pixels) for pixels in inputs])


def _levels_on_grid(backbone: nn.Sequential, config: FeatureConfig, activations: Tensor) -> Tensor:
    """Run the backbone and return the scaled and resized levels, concatenated: `[B, C, h, w]`."""
    grid = (config.grid_size, config.grid_size)
    is_varied = (activations.amax((2, 3)) > activations.amin((2, 3))).any(1)[:, None, None, None]
    levels = []
    for index, block in enumerate(backbone[: max(config.levels) + 1]):
        activations = block(activations)
        if index in config.levels:
            scale = activations.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            unit = activations / scale.clamp_min(torch.finfo(scale.dtype).tiny)
            levels.append(functional.interpolate(unit, grid, mode="bilinear", antialias=True))
    return torch.cat(levels, dim=1) * is_varied


def network_input(
    images: ImageBatch,
    side: int,
    normalisation: Normalisation = IMAGENET,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the images squashed to a square and normalized.

    Args:
        images: The batch.
        side: Height and width of the result, in pixels.
        normalisation: Mean and standard deviation of pixels in [0, 1].
        dtype: dtype of the result.

    Returns:
        `[B, 3, side, side]`, channels last.
    """
    num_images = len(images)
    corners = torch.zeros_like(images.sizes)
    boxes = torch.cat([corners, images.sizes.flip(1)], dim=1)  # (0, 0, width, height)
    index = torch.arange(num_images, device=images.sizes.device)
    square = torch.full((num_images, 2), side, device=images.sizes.device)
    return crop_resize(
        images.pixels,
        index,
        boxes,
        side,
        resized=square,
        offset=corners,
        normalisation=normalisation,
        dtype=dtype,
        memory_format=torch.channels_last,
    )
