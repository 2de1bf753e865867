"""The images of the gallery: thumbnails, larger views, and class maps to show over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovsr_gpu.drawing.palette import NUM_DISTINCT_COLORS, Array, class_colors

THUMBNAIL_SIDE, VIEW_SIDE = 320, 1024
"""Maximum long side in pixels of the images in the grid, and of the image that a click opens."""

JPEG_QUALITY = 85
TRANSPARENT = -1
"""Value of the pixels of a class map at which the image is visible."""


def write_page_images(folder: Path, number: int, pixels: Array, class_map: Array, num_classes: int) -> bool:
    """Write `thumbnails/<number>.jpg`, `masks/<number>.png` and, for larger images, `views/<number>.jpg`.

    The mask has the size of the thumbnail.

    Args:
        folder: The folder of the page.
        number: The number of the image in the page.
        pixels: `[H, W, 3]` uint8, the image.
        class_map: `[H, W]` integers: class indices, `num_classes` for "something else", or `TRANSPARENT`.
        num_classes: Number of classes, L.

    Returns:
        Whether there is a view.
    """
    image = Image.fromarray(pixels)
    has_view = max(image.size) > THUMBNAIL_SIDE
    if has_view:
        image.thumbnail((VIEW_SIDE, VIEW_SIDE), Image.Resampling.LANCZOS)
        _save(image, folder / "views" / f"{number}.jpg", quality=JPEG_QUALITY)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    _save(image, folder / "thumbnails" / f"{number}.jpg", quality=JPEG_QUALITY)
    mask = draw_mask(class_map, num_classes).resize(image.size, Image.Resampling.NEAREST)
    _save(mask, folder / "masks" / f"{number}.png", optimize=True)
    return has_view


def draw_mask(class_map: Array, num_classes: int) -> Image.Image:
    """Draw a class map in its colors.

    Because colors repeat, a palette image is enough for any number of classes.

    Args:
        class_map: `[H, W]` integers: class indices, `num_classes` for "something else", or `TRANSPARENT`.
        num_classes: Number of classes, L.

    Returns:
        A palette image, or an RGBA image if some pixels are transparent.
    """
    colors = class_colors(min(num_classes, NUM_DISTINCT_COLORS))
    indices = np.where(class_map == num_classes, len(colors) - 1, class_map % NUM_DISTINCT_COLORS)
    mask = Image.fromarray(indices.astype(np.uint8), "P")
    mask.putpalette(colors.tobytes())
    is_opaque = class_map != TRANSPARENT
    if not is_opaque.all():
        mask = mask.convert("RGB")
        mask.putalpha(Image.fromarray(is_opaque).convert("L"))
    return mask


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
