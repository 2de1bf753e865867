"""Region crops: boxes with context, resized to CLIP's input, with the background treated as configured."""

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
    """CLIP's input for each region: `[N, 3, S, S]` in the model's precision, normalised as the model wants it.

    region_map: `[B, H, W]` int32. spans: `[N, 2]` int64, see `Regions.spans`.
    """
    side = clip.image_size
    boxes = context_boxes(regions.boxes, images.sizes[regions.image_index], config)
    resized, offset = resize_window(boxes, side, config.box, clip.resize_mode)
    window = (images.pixels, regions.image_index, boxes, side)
    if config.background == "blur":
        crops = crop_resize(*window, resized=resized, offset=offset, fill=clip.fill_color)
        own = crop_masks(region_map, regions.image_index, spans, boxes, side, resized, offset)[:, None]
        return normalise(torch.where(own, crops, _blurred(crops)), clip.normalisation).to(clip.dtype)
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
    """Boxes grown by `config.context` of their sides, inside the image, and to squares if `config.box` says so.

    boxes: `[N, 4]` int64. sizes: `[N, 2]` int64, height and width of each region's image.
    """
    limit = sizes.flip(1)  # width, height
    corner, far = boxes[:, :2], boxes[:, 2:]
    grow = ((far - corner) * round(1e6 * config.context) + 500_000) // 1_000_000  # whole numbers round alike everywhere
    corner, far = (corner - grow).clamp_min(0), torch.minimum(far + grow, limit)
    if config.box == "square":
        sides = far - corner
        square = torch.minimum(sides.max(dim=1, keepdim=True).values, limit)
        corner = (corner - (square - sides) // 2).clamp_min(0)
        corner = torch.minimum(corner, limit - square)
        far = corner + square
    return torch.cat([corner, far], dim=1)


def resize_window(boxes: Tensor, side: int, mode: BoxMode, model_mode: str) -> tuple[Tensor, Tensor]:
    """To what size each box is resized, and where in it the `side` x `side` window lies.

    "squash" and "square" resize the box to the window. "open_clip" does as the model's own preprocessing: "squash"
    likewise; "shortest" brings the short side to `side` and takes the center; "longest" brings the long side to `side`
    and centers it on the fill color. Returns `[N, 2]` int64 (height, width) and `[N, 2]` int64 (row, column).
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
    spare = resized - side
    center = torch.where(spare >= 0, (spare / 2).round().long(), -(-spare // 2))  # torchvision's rounding
    return resized, center


def _blurred(crops: Tensor) -> Tensor:
    sigma = BLUR_SIGMA * crops.shape[-1]
    return gaussian_blur(crops, [2 * int(3 * sigma) + 1] * 2, [sigma, sigma])
