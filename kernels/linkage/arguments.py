"""Checks that the linkages share."""

from __future__ import annotations

import torch
from torch import Tensor


def check_method(method: str, offered: tuple[str, ...]) -> None:
    if method not in offered:
        raise ValueError(f"method must be one of {', '.join(offered)}; got {method!r}")


def check_floating(name: str, tensor: Tensor, shape: str, good_shape: bool) -> None:
    """Refuse a tensor that is not a floating-point one of the `shape` that is spelled out."""
    if not good_shape or tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} must be a float32 or float64 tensor of shape {shape}; got {list(tensor.shape)} {tensor.dtype}"
        )


def mask_and_wanted(like: Tensor, points: int, mask: Tensor | None, stop_at: int | Tensor) -> tuple[Tensor, Tensor]:
    """The points that take part, `[B, P]` bool, and the number of merges that leave `stop_at` clusters, `[B]` int64."""
    images = like.shape[0]
    if mask is None:
        mask = torch.ones(images, points, dtype=torch.bool, device=like.device)
    if mask.shape != (images, points) or mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool of shape {[images, points]}; got {list(mask.shape)} {mask.dtype}")
    if isinstance(stop_at, int):
        if stop_at < 1:
            raise ValueError(f"stop_at must be at least 1 cluster; got {stop_at}")
        stop_at = torch.full((images,), stop_at, device=like.device)
    if stop_at.shape != (images,) or stop_at.dtype != torch.int64:
        raise ValueError(
            f"stop_at must be an int or int64 of shape {[images]}; got {list(stop_at.shape)} {stop_at.dtype}"
        )
    return mask, (mask.sum(1) - stop_at).clamp_min(0)
