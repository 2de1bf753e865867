"""Region crops with Pillow's crop and resize, and with the configured background."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from open_clip.transform import CenterCropOrPad
from PIL import Image
from scipy.ndimage import gaussian_filter

from ovsr_gpu.config import BoxMode, RegionConfig
from ovsr_gpu.models.clip import ClipModel
from reference.arrays import Array
from reference.regions import ImageRegions

BLUR_SIGMA = 1 / 16  # as a fraction of the crop's side


def region_crops(image: Array, regions: ImageRegions, clip: ClipModel, config: RegionConfig) -> Array:
    """Return CLIP's input `[n, 3, S, S]` float32 for the regions of an image `[H, W, 3]` uint8."""
    pil_image = Image.fromarray(image)
    window = CenterCropOrPad(clip.image_size, fill=clip.fill_color)
    mask_window = CenterCropOrPad(clip.image_size, fill=0)
    crops = []
    for number, box in enumerate(regions.boxes):
        x0, y0, x1, y1 = context_box(box, pil_image.size, config)
        size = resized_size(x1 - x0, y1 - y0, clip, config.box)
        crop = pil_image.crop((x0, y0, x1, y1)).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(window(crop), np.float32)
        if config.background != "keep":
            region_mask = resize_nearest(regions.region_map[y0:y1, x0:x1] == number, size)
            mask = np.asarray(mask_window(Image.fromarray(region_mask)))[:, :, None]
            pixels = np.where(mask, pixels, background(pixels, clip, config))
        crops.append(pixels)
    mean, std = (np.array(values, np.float32) for values in clip.normalisation)
    return np.ascontiguousarray(((np.stack(crops) / 255 - mean) / std).transpose(0, 3, 1, 2))


def resized_size(width: int, height: int, clip: ClipModel, mode: BoxMode) -> tuple[int, int]:
    """Return the width and height before the center crop; "open_clip" uses the preprocessing of the model."""
    side = clip.image_size
    if mode != "open_clip" or clip.resize_mode == "squash":
        return side, side
    if clip.resize_mode == "shortest":
        short = min(width, height)
        return int(side * width / short), int(side * height / short)
    long = max(width, height)
    return max(round(side * width / long), 1), max(round(side * height / long), 1)


def resize_nearest(mask: Array, size: tuple[int, int]) -> Array:
    """Return the pixel under the center of each new pixel, as uint8.

    The computation uses integers, because centers often fall on a border.
    """
    rows, columns = ((2 * np.arange(n) + 1) * old // (2 * n) for n, old in zip(size[::-1], mask.shape, strict=True))
    return mask[np.ix_(rows, columns)].astype(np.uint8)


def background(pixels: Array, clip: ClipModel, config: RegionConfig) -> Array:
    if config.background == "mean":
        return 255 * np.array(clip.normalisation.mean, np.float32)
    sigma = BLUR_SIGMA * clip.image_size
    return gaussian_filter(pixels, sigma, axes=(0, 1), radius=int(3 * sigma), mode="mirror")


def context_box(box: Array, size: tuple[int, int], config: RegionConfig) -> tuple[int, int, int, int]:
    """Return the box with its context, as a square if configured, inside the image of `size` (width, height)."""
    spans = []
    for start, stop, limit in zip(box[:2].tolist(), box[2:].tolist(), size, strict=True):
        grow = math.floor(Fraction(str(config.context)) * int(stop - start) + Fraction(1, 2))
        spans.append((max(start - grow, 0), min(stop + grow, limit)))
    if config.box == "square":
        longest = max(stop - start for start, stop in spans)
        spans = [squared(*span, longest, limit) for span, limit in zip(spans, size, strict=True)]
    (x0, x1), (y0, y1) = spans
    return x0, y0, x1, y1


def squared(start: int, stop: int, longest: int, limit: int) -> tuple[int, int]:
    """Return a span that is grown to `longest` around its center and shifted into [0, limit)."""
    length = min(longest, limit)
    start = min(max(start - (length - (stop - start)) // 2, 0), limit - length)
    return start, start + length
