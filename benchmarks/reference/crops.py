"""Region crops: Pillow's crop and resize, with the background treated as configured."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from ovsr_gpu.config import BoxMode, RegionConfig
from ovsr_gpu.models.clip import ClipModel
from reference.arrays import Array
from reference.regions import PictureRegions

BLUR_SIGMA = 1 / 16  # of the crop's side


def region_crops(picture: Array, regions: PictureRegions, clip: ClipModel, config: RegionConfig) -> Array:
    """CLIP's input `[n, 3, S, S]` float32 for the regions of a picture `[H, W, 3]` uint8."""
    image = Image.fromarray(picture)
    crops = []
    for number, box in enumerate(regions.boxes):
        x0, y0, x1, y1 = context_box(box, image.size, config)
        crop = fit(image.crop((x0, y0, x1, y1)), InterpolationMode.BICUBIC, clip.fill_color, clip, config.box)
        pixels = np.asarray(crop, np.float32)
        if config.background != "keep":
            own = Image.fromarray(regions.region_map[y0:y1, x0:x1] == number).convert("L")
            mask = np.asarray(fit(own, InterpolationMode.NEAREST, 0, clip, config.box))[:, :, None] > 0
            pixels = np.where(mask, pixels, background(pixels, clip, config))
        crops.append(pixels)
    mean, std = np.array(clip.mean, np.float32), np.array(clip.std, np.float32)
    return np.ascontiguousarray(((np.stack(crops) / 255 - mean) / std).transpose(0, 3, 1, 2))


def background(pixels: Array, clip: ClipModel, config: RegionConfig) -> Array:
    if config.background == "mean":
        return 255 * np.array(clip.mean, np.float32)
    sigma = BLUR_SIGMA * clip.image_size
    return gaussian_filter(pixels, sigma, axes=(0, 1), radius=int(3 * sigma), mode="mirror")


def context_box(box: Array, size: tuple[int, int], config: RegionConfig) -> tuple[int, int, int, int]:
    """The box with its context, as a square where asked for, inside the picture of `size` (width, height)."""
    spans = []
    for start, stop, limit in zip(box[:2].tolist(), box[2:].tolist(), size, strict=True):
        grow = round(config.context * (stop - start))
        spans.append((max(start - grow, 0), min(stop + grow, limit)))
    if config.box == "square":
        longest = max(stop - start for start, stop in spans)
        spans = [squared(*span, longest, limit) for span, limit in zip(spans, size, strict=True)]
    (x0, x1), (y0, y1) = spans
    return x0, y0, x1, y1


def squared(start: int, stop: int, longest: int, limit: int) -> tuple[int, int]:
    """A span grown to `longest` about its middle, pushed back into [0, limit)."""
    length = min(longest, limit)
    start = min(max(start - (length - (stop - start)) // 2, 0), limit - length)
    return start, start + length


def fit(crop: Image.Image, interpolation: InterpolationMode, fill: int, clip: ClipModel, mode: BoxMode) -> Image.Image:
    """Resize a crop to CLIP's square input, by the model's own preprocessing where `mode` is "open_clip"."""
    from open_clip.transform import CenterCropOrPad, ResizeKeepRatio

    side = clip.image_size
    if mode != "open_clip" or clip.resize_mode == "squash":
        return resize(crop, [side, side], interpolation)
    if clip.resize_mode == "shortest":
        return center_crop(resize(crop, [side], interpolation), [side, side])
    whole = ResizeKeepRatio(side, longest=1, interpolation=interpolation)(crop)
    return CenterCropOrPad(side, fill=fill)(whole)
