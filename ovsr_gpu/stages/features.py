"""Pixel features: several EfficientNet levels on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovsr_gpu.config import FeatureConfig
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.kernels.crop_resize import Normalisation, crop_resize
from ovsr_gpu.timing import stage

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@stage("features")
def pixel_features(backbone: nn.Sequential, images: ImageBatch, config: FeatureConfig, batch: int) -> Tensor:
    """Features of every grid cell: `[B, C, h, w]` float32, h = w = `config.grid_size`.

    Each picture is squashed to the network's square input; each level is scaled to unit root mean square over the
    picture, so that no level outweighs another by its scale alone, and resized to the grid. A picture of one colour has
    features of zero: what zero padding makes of its borders is no structure. `batch` pictures go through the network at
    a time.
    """
    return torch.cat([_levels_on_grid(backbone, part, config) for part in images.split(batch)])


def _levels_on_grid(backbone: nn.Sequential, images: ImageBatch, config: FeatureConfig) -> Tensor:
    grid = (config.grid_size, config.grid_size)
    activations = network_input(images, config.input_size).contiguous(memory_format=torch.channels_last)
    varied = (activations.amax((2, 3)) > activations.amin((2, 3))).any(1)[:, None, None, None]
    levels = []
    for index, block in enumerate(backbone[: max(config.levels) + 1]):
        activations = block(activations)
        if index in config.levels:
            scale = activations.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            unit = activations / scale.clamp_min(torch.finfo(scale.dtype).tiny)
            levels.append(functional.interpolate(unit, grid, mode="bilinear", antialias=True))
    return torch.cat(levels, dim=1).float() * varied


def network_input(
    images: ImageBatch, side: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """The pictures squashed to `side` x `side` and normalised: `[B, 3, side, side]` float32.

    mean, std: three values for pixels in [0, 1], those of ImageNet networks unless given.
    """
    count = len(images)
    corners = torch.zeros_like(images.sizes)
    boxes = torch.cat([corners, images.sizes.flip(1)], dim=1)  # (0, 0, width, height)
    index = torch.arange(count, device=images.sizes.device)
    square = torch.full((count, 2), side, device=images.sizes.device)
    return crop_resize(
        images.pixels,
        index,
        boxes,
        side,
        resized=square,
        offset=corners,
        normalisation=Normalisation(mean, std),
        memory_format=torch.channels_last,
    )
