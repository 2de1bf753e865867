"""Pixel features and their SVD latents."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from ovsr_gpu.config import FeatureConfig, LatentConfig
from ovsr_gpu.models.network_batch import float32_convolutions
from reference.arrays import Array

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def pixel_features(backbone: nn.Sequential, image: Array, config: FeatureConfig, device: torch.device) -> Array:
    """Return the features `[h, w, C]` of an image `[H, W, 3]` uint8: levels of unit RMS, resized to one grid.

    The features of an image of a single color are zero, because the network would only respond to its own zero padding.
    """
    squashed = Image.fromarray(image).resize((config.input_size, config.input_size), Image.Resampling.BICUBIC)
    normalised = (np.asarray(squashed, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    activations = torch.from_numpy(normalised.transpose(2, 0, 1)[None].copy()).to(device)
    levels = {}
    with float32_convolutions():
        for index, block in enumerate(backbone[: max(config.levels) + 1]):
            activations = block(activations)
            if index in config.levels:
                levels[index] = activations[0].cpu().numpy()
    on_grid = [resize_bilinear(unit_rms(level), config.grid_size) for level in levels.values()]
    features = np.concatenate(on_grid).transpose(1, 2, 0)
    return features if np.ptp(normalised, axis=(0, 1)).any() else np.zeros_like(features)


def unit_rms(level: Array) -> Array:
    scale = np.sqrt(np.mean(np.square(level)))
    return level / scale if scale > 0 else level


def resize_bilinear(level: Array, side: int) -> Array:
    """Resize `[C, y, x]` to `[C, side, side]`, antialiased like Pillow's BILINEAR."""
    down, across = (bilinear_weights(length, side) for length in level.shape[1:])
    return down @ level @ across.T


def bilinear_weights(length: int, side: int) -> Array:
    """Return the weights `[side, length]` of the input lines for each output line.

    The kernel is a triangle that widens when shrinking.
    """
    scale = length / side
    center = (np.arange(side)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - center) / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def svd_latents(features: Array, config: LatentConfig) -> tuple[Array, Array]:
    """Return the latents `[P, R]` of features `[h, w, C]`, and their singular values `[M]`."""
    pixels = features.reshape(-1, features.shape[2])
    u, singular_values, _ = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)
    components = u[:, : config.rank]
    if config.scaled:
        components = components * singular_values[: config.rank]
    return components, singular_values
