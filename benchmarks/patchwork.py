"""Made pictures for benchmarks and tests."""

from __future__ import annotations

import numpy as np


def patchwork(height: int, width: int, patches: int, rng: np.random.Generator) -> np.ndarray:
    """A picture `[height, width, 3]` uint8 of patches, each of a colour and a wave of its own, with noise."""
    y, x = np.mgrid[:height, :width]
    seeds = rng.uniform(0, 1, (patches, 2)) * (height, width)
    patch = np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]).argmin(axis=2)
    colour, frequency = rng.uniform(0, 255, (patches, 3)), rng.uniform(0.05, 0.8, (patches, 2))
    strength = rng.uniform(0, 70, patches)
    wave = strength[patch] * np.sin(frequency[patch, 0] * y + frequency[patch, 1] * x)
    noise = rng.normal(0, 6, (height, width, 3))
    return np.clip(colour[patch] + wave[..., None] + noise, 0, 255).astype(np.uint8)
