"""Region crops: boxes with context, resized to CLIP's input size, with the configured background."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from ovsr_gpu.config import BoxMode, RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.crop_resize import RegionMask, crop_masks, crop_resize, normalise
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.results import Regions
from ovsr_gpu.runtime.timing import stage

BLUR_SIGMA = 1 / 16
"""Standard deviation of the background blur, as a fraction of the crop's side."""


@stage("crops")
def region_crops(
    images: ImageBatch, region_map: Tensor, regions: Regions, spans: Tensor, clip: ClipModel, config: RegionConfig
) -> Tensor:
    """Return CLIP's input for each region.

    Args:
        images: The batch.
        region_map: `[B, H, W]` int32.
        regions: N regions of the batch.
        spans: `[N, 2]` int64, see `Regions.spans`.
        clip: The model; it determines the side S, the normalization and the dtype.
        config: Context, box mode and one background.

    Returns:
        `[N, 3, S, S]` in the model's precision.
    """
    side = clip.image_size
    boxes = context_boxes(regions.boxes, images.sizes[regions.image_index], config)
    resized, offset = resize_window(boxes, side, config.box, clip.resize_mode)
    window = (images.pixels, regions.image_index, boxes, side)
    if config.background == "blur":
        crops = crop_resize(*window, resized=resized, offset=offset, fill=clip.fill_color)
        inside = crop_masks(region_map, regions.image_index, spans, boxes, side, resized, offset)[:, None]
        return normalise(torch.where(inside, crops, _blurred(crops)), clip.normalisation).to(clip.dtype)
    return crop_resize(
        *window,
        resized=resized,
        offset=offset,
        fill=clip.fill_color,
        mask=RegionMask(region_map, spans, clip.mean_color) if config.background == "mean" else None,
        normalisation=clip.normalisation,
        dtype=clip.dtype,
        memory_format=torch.channels_last,
    )


def context_boxes(boxes: Tensor, sizes: Tensor, config: RegionConfig) -> Tensor:
    """Grow boxes by the context, and to squares if `config.box` is "square"; clip them to the image.

    Args:
        boxes: `[N, 4]` int64, (x0, y0, x1, y1).
        sizes: `[N, 2]` int64, height and width of each region's image.
        config: `context`, a fraction of each side, and `box`.

    Returns:
        `[N, 4]` int64.
    """
    limit = sizes.flip(1)  # width, height
    start, stop = boxes[:, :2], boxes[:, 2:]
    # Integer arithmetic rounds the same way on every device.
    margin = ((stop - start) * round(1e6 * config.context) + 500_000) // 1_000_000
    start, stop = (start - margin).clamp_min(0), torch.minimum(stop + margin, limit)
    if config.box == "square":
        sides = stop - start
        square = torch.minimum(sides.max(dim=1, keepdim=True).values, limit)
        start = (start - (square - sides) // 2).clamp_min(0)
        start = torch.minimum(start, limit - square)
        stop = start + square
    return torch.cat([start, stop], dim=1)


def resize_window(boxes: Tensor, side: int, mode: BoxMode, model_mode: str) -> tuple[Tensor, Tensor]:
    """Return the size that each box is resized to, and the offset of the `side` x `side` window in it.

    "squash" and "square" resize the box to the window. "open_clip" follows the model's own preprocessing: "squash" does
    the same; "shortest" scales the short side to `side` and crops the center; "longest" scales the long side to `side`
    and centers the result on the fill color.

    Args:
        boxes: `[N, 4]` int64.
        side: S, pixels.
        mode: `RegionConfig.box`.
        model_mode: The resize mode of the model: "squash", "shortest" or "longest".

    Returns:
        Sizes (height, width) `[N, 2]` int64 and offsets (row, column) `[N, 2]` int64; negative offsets are padding.

    Raises:
        ValueError: `model_mode` is unknown.
    """
    sides = torch.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], dim=1)  # height, width
    if mode != "open_clip" or model_mode == "squash":
        return torch.full_like(sides, side), torch.zeros_like(sides)
    if model_mode == "shortest":
        resized = side * sides // sides.min(dim=1, keepdim=True).values
    elif model_mode == "longest":
        resized = (side * sides / sides.max(dim=1, keepdim=True).values).round().long().clamp_min(1)
    else:
        raise ValueError(f"resize mode must be 'squash', 'shortest' or 'longest'; got {model_mode!r}")
    excess = resized - side
    offset = torch.where(excess >= 0, (excess / 2).round().long(), -(-excess // 2))  # torchvision's rounding
    return resized, offset


def _blurred(crops: Tensor) -> Tensor:
    """Return the crops after a Gaussian blur."""
    sigma = BLUR_SIGMA * crops.shape[-1]
    return gaussian_blur(crops, [2 * int(3 * sigma) + 1] * 2, [sigma, sigma])
