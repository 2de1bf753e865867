"""Connected components of label grids and absorption of small ones: the public functions."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from ovsr_gpu.kernels.backend import choose_backend
from ovsr_gpu.kernels.components import components_torch
from ovsr_gpu.kernels.trees import number_by_first


def connected_components(labels: Tensor, *, backend: str = "auto") -> Tensor:
    """Components of equal labels that touch by a side.

    labels: `[B, h, w]` int64, h, w >= 1. backend: "torch", "triton", or "auto" for the one that suits the device.
    Returns `[B, h, w]` int64, 0, 1, ... in each image in the order of the components' first cells.

    Raises ValueError for another shape or dtype, RuntimeError for a backend that cannot run here.
    """
    _check("labels", labels)
    first = _engine(backend, labels).first_cells(labels)
    return number_by_first(first.flatten(1)).view_as(labels)


def absorb_small(components: Tensor, least: float, *, backend: str = "auto") -> Tensor:
    """Give every component of fewer than `least` cells to the neighbour with which it shares the longest border.

    Smallest first (of equals the lowest number), until none is left or the image is one component; of equal borders the
    neighbour with the lowest number wins.

    components: `[B, h, w]` int64 in [0, h * w), each connected. Returns `[B, h, w]` int64, numbered by first cell.
    The rest is as in `connected_components`.
    """
    _check("components", components)
    absorbed = _engine(backend, components).absorb(components, least)
    return number_by_first(absorbed.flatten(1)).view_as(components)


def _engine(backend: str, data: Tensor) -> ModuleType:
    if choose_backend(backend, data) == "triton":
        from ovsr_gpu.kernels.components import components_triton

        return components_triton
    return components_torch


def _check(name: str, grid: Tensor) -> None:
    if grid.ndim != 3 or 0 in grid.shape[1:] or grid.dtype != torch.int64:
        raise ValueError(
            f"{name} must be int64 of shape [B, h, w], h and w at least 1; got {list(grid.shape)} {grid.dtype}"
        )
