"""The images of the gallery: small images, larger ones where there is more to see, and class maps to lay over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovsr_gpu.drawing.palette import DISTINCT_COLORS, Array, class_colors

THUMBNAIL_SIDE, VIEW_SIDE = 320, 1024
"""Pixels: the longest sides of what stands in the grid and of what a click opens."""
QUALITY = 85
UNCOVERED = -1
"""In a class map: nothing is laid over the image."""


def write_images(folder: Path, number: int, pixels: Array, class_map: Array, classes: int) -> bool:
    """Write `thumbnails/<number>.jpg`, `masks/<number>.png` and, where the image is larger, `views/<number>.jpg`.

    pixels: `[H, W, 3]` uint8. class_map: `[H, W]` integers, `classes` for "something else", `UNCOVERED` where the mask
    is to be transparent. Returns whether there is a view. The mask has the thumbnail's size.
    """
    image = Image.fromarray(pixels)
    large = max(image.size) > THUMBNAIL_SIDE
    if large:
        image.thumbnail((VIEW_SIDE, VIEW_SIDE), Image.Resampling.LANCZOS)
        _save(image, folder / "views" / f"{number}.jpg", quality=QUALITY)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    _save(image, folder / "thumbnails" / f"{number}.jpg", quality=QUALITY)
    mask = draw_mask(class_map, classes).resize(image.size, Image.Resampling.NEAREST)
    _save(mask, folder / "masks" / f"{number}.png", optimize=True)
    return large


def draw_mask(class_map: Array, classes: int) -> Image.Image:
    """The class map in its colors, see `write_images`; as colors repeat, any number of classes fits in a palette."""
    colors = class_colors(min(classes, DISTINCT_COLORS))
    indices = np.where(class_map == classes, len(colors) - 1, class_map % DISTINCT_COLORS)
    mask = Image.fromarray(indices.astype(np.uint8), "P")
    mask.putpalette(colors.tobytes())
    covered = class_map != UNCOVERED
    if not covered.all():
        mask = mask.convert("RGB")
        mask.putalpha(Image.fromarray(covered).convert("L"))
    return mask


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
