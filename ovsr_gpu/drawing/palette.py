"""The colors of the classes, and label maps as images."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

SOMETHING_ELSE_COLOR = (64, 64, 64)
FIRST_COLOR = (240, 120, 60)
DISTINCT_COLORS = 255


def label_image(class_map: Array, colors: Array) -> Image.Image:
    """The class indices `[H, W]` as an image with the palette `colors`, or in 16-bit gray if those are over 256."""
    if len(colors) > 256:
        return Image.fromarray(class_map.astype(np.uint16))
    image = Image.fromarray(class_map.astype(np.uint8), "P")
    image.putpalette(colors.tobytes())
    return image


def class_colors(count: int) -> Array:
    """The colors of `count` classes and, last, of "something else": `[count + 1, 3]` uint8.

    A class's color depends on its index alone; colors repeat after `DISTINCT_COLORS` classes.
    """
    colors = _distinct_colors()[np.arange(count) % DISTINCT_COLORS]
    return np.vstack([colors, np.array([SOMETHING_ELSE_COLOR], np.uint8)])


@lru_cache(maxsize=1)
def _distinct_colors() -> Array:
    """Colors picked one by one, each as far as can be in OKLab from all before it: `[255, 3]` uint8."""
    steps = np.linspace(0, 255, 18).round()
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(candidates)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    # Neither so dark nor so pale nor so gray that it is lost over a photograph or beside "something else", nor glaring.
    usable = (lightness > 0.57) & (lightness < 0.88) & (chroma > 0.09) & (chroma < 0.21)
    # Over an image the lightness is half the image's: it tells less than the hue.
    candidates, lab = candidates[usable], lab[usable] * (0.6, 1, 1)
    chosen = [int(np.abs(candidates - FIRST_COLOR).sum(axis=1).argmin())]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < DISTINCT_COLORS:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return candidates[chosen].astype(np.uint8)


def _oklab(rgb: Array) -> Array:
    """sRGB 0..255 to OKLab (Ottosson 2020), in which equal distances look equal: `[n, 3]` float64."""
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
