"""Class colors, and label maps as images."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

SOMETHING_ELSE_COLOR = (64, 64, 64)
FIRST_COLOR = (240, 120, 60)
NUM_DISTINCT_COLORS = 255


def label_image(class_map: Array, colors: Array) -> Image.Image:
    """Make an image whose pixel values are class indices.

    Args:
        class_map: `[H, W]` integers, class indices.
        colors: `[L+1, 3]` uint8, the colors of the classes and of "something else".

    Returns:
        A palette image, or a 16-bit gray image if there are more than 256 colors.
    """
    if len(colors) > 256:
        return Image.fromarray(class_map.astype(np.uint16))
    image = Image.fromarray(class_map.astype(np.uint8), "P")
    image.putpalette(colors.tobytes())
    return image


def class_colors(num_classes: int) -> Array:
    """Return the colors of the classes.

    The color of a class depends only on its index. Colors repeat after `NUM_DISTINCT_COLORS` classes.

    Args:
        num_classes: Number of classes, L.

    Returns:
        `[L+1, 3]` uint8, RGB; the last color is that of "something else".
    """
    colors = _distinct_colors()[np.arange(num_classes) % NUM_DISTINCT_COLORS]
    return np.vstack([colors, np.array([SOMETHING_ELSE_COLOR], np.uint8)])


@lru_cache(maxsize=1)
def _distinct_colors() -> Array:
    """Choose colors greedily, each as far as possible in OKLab from all before it: `[255, 3]` uint8."""
    steps = np.linspace(0, 255, 18).round()
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(candidates)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    # Not too dark, pale or gray to be seen over a photograph or next to "something else", and not glaring.
    usable = (lightness > 0.57) & (lightness < 0.88) & (chroma > 0.09) & (chroma < 0.21)
    # In an overlay half of the lightness comes from the image, so it distinguishes classes less than the hue.
    candidates, lab = candidates[usable], lab[usable] * (0.6, 1, 1)
    chosen = [int(np.abs(candidates - FIRST_COLOR).sum(axis=1).argmin())]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < NUM_DISTINCT_COLORS:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return candidates[chosen].astype(np.uint8)


def _oklab(rgb: Array) -> Array:
    """Convert sRGB 0..255 to OKLab (Ottosson 2020), a perceptually uniform space: `[n, 3]` float64."""
    srgb = rgb / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ to_lms.T) @ to_lab.T
