"""Synthetic images for benchmarks and tests."""

from __future__ import annotations

import numpy as np


def patchwork(height: int, width: int, patches: int, rng: np.random.Generator) -> np.ndarray:
    """Generate an image `[height, width, 3]` uint8 of noisy patches, each with its own color and wave pattern."""
    y, x = np.mgrid[:height, :width]
    seeds = rng.uniform(0, 1, (patches, 2)) * (height, width)
    patch = np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]).argmin(axis=2)
    color, frequency = rng.uniform(0, 255, (patches, 3)), rng.uniform(0.05, 0.8, (patches, 2))
    strength = rng.uniform(0, 70, patches)
    wave = strength[patch] * np.sin(frequency[patch, 0] * y + frequency[patch, 1] * x)
    noise = rng.normal(0, 6, (height, width, 3))
    return np.clip(color[patch] + wave[..., None] + noise, 0, 255).astype(np.uint8)


def tiles(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Generate an image `[height, width, 3]` uint8 of equal tiles, each of another color, with a little noise.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        count: Number of tiles, a power of two up to 16.
        rng: Generator of the colors and the noise.
    """
    rows = 1 << (count.bit_length() - 1) // 2
    columns = count // rows
    y, x = np.mgrid[:height, :width]
    tile = y * rows // height * columns + x * columns // width
    levels = np.stack(np.meshgrid(*[[20, 128, 235]] * 3), axis=-1).reshape(-1, 3)
    color = rng.permutation(levels)[:count]
    return np.clip(color[tile] + rng.integers(-10, 11, (height, width, 3)), 0, 255).astype(np.uint8)
