"""Batched antialiased crop and resize: checks and dispatch.

The resize is separable and linear. A pass along one axis makes each output line a weighted sum of a few input lines.
As in Pillow 13, weights have 22 fractional bits, each pass rounds to whole grey values, and boxes that shrink mostly in
height go through the vertical pass first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.backend import choose_backend
from ovsr_gpu.kernels.crop_resize.arguments import SUPPORT, Finish, Normalisation, RegionMask, Windows


def crop_resize(
    images: Tensor,
    image_index: Tensor,
    boxes: Tensor,
    side: int,
    *,
    resized: Tensor,
    offset: Tensor,
    fill: float = 0.0,
    interpolation: str = "bicubic",
    mask: RegionMask | None = None,
    normalisation: Normalisation | None = None,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    backend: str = "auto",
) -> Tensor:
    """A `side` x `side` window on each resized box: `[N, 3, side, side]`, whole values 0 to 255 unless normalised.

    images: `[B, 3, H, W]` uint8. image_index: `[N]` int64. boxes: `[N, 4]` int64 (x0, y0, x1, y1), x1 and y1 exclusive,
        inside their image and not empty.
    resized: `[N, 2]` int64, height and width to which the box is resized. offset: `[N, 2]` int64, row and column of the
        window's corner in the resized box; what lies outside the resized box is `fill`.
    interpolation: "bicubic" or "bilinear", Pillow's filters of these names (Keys' cubic with a = -0.5; a triangle).
    mask: paints what does not belong to the crop's region, fill included. normalisation: comes after that.
    dtype: float32, float16 or bfloat16, to which the float32 results are rounded. memory_format: of the result.
    backend: "torch", "triton", or "auto" for the one that suits the device; the same results. "triton" reads nothing
        back to the host.

    Raises ValueError for another shape, dtype or name, RuntimeError for a backend that cannot run here.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"images must be a [B, 3, H, W] uint8 tensor; got {list(images.shape)} {images.dtype}")
    if interpolation not in SUPPORT:
        raise ValueError(f"interpolation must be one of {', '.join(SUPPORT)}; got {interpolation!r}")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16; got {dtype}")
    windows = Windows(image_index, boxes, resized, offset, side)
    for name, tensor, shape in (
        ("image_index", image_index, [len(boxes)]),
        ("boxes", boxes, [len(boxes), 4]),
        ("resized", resized, [len(boxes), 2]),
        ("offset", offset, [len(boxes), 2]),
    ):
        _check(name, tensor, shape, torch.int64)
    if mask is not None:
        _check("mask.region_map", mask.region_map, [len(images), *images.shape[2:]], torch.int32)
        _check("mask.spans", mask.spans, [len(boxes), 2], torch.int64)
    if choose_backend(backend, images) == "triton":
        from ovsr_gpu.kernels.crop_resize.crops_triton import crop_resize as run
    else:
        from ovsr_gpu.kernels.crop_resize.crops_torch import crop_resize as run
    return run(images, windows, interpolation, Finish(fill, mask, normalisation, dtype, memory_format))


def _check(name: str, tensor: Tensor, shape: list[int], dtype: torch.dtype) -> None:
    if list(tensor.shape) != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} must be {shape} {dtype}; got {list(tensor.shape)} {tensor.dtype}")
