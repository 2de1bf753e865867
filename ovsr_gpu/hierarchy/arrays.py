"""Conversion between tensors and other types of arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A NumPy array, a torch tensor, any other array that supports DLPack (such as CuPy's), or nested lists of numbers."""


def as_tensor(array: Array, dtype: str | None = None, device: torch.device | str | None = None) -> Tensor:
    """Return the array as a tensor, which may share its memory: callers must not write to it.

    Args:
        array: See `Array`.
        dtype: Name of a torch dtype; None keeps the dtype of the array.
        device: Device of the tensor; None keeps that of the array.

    Returns:
        The tensor.
    """
    if isinstance(array, Tensor):
        tensor = array.detach()
    elif _supports_dlpack(array):
        tensor = torch.from_dlpack(array)
    else:
        tensor = torch.from_numpy(np.array(array, dtype=dtype, order="C"))
    return tensor.to(device=device, dtype=getattr(torch, dtype) if dtype else None)


def convert_like(array: Array, tensor: Tensor) -> Array:
    """Convert a tensor to the type and device of `array`; with NumPy, a tensor of no dimensions becomes a scalar."""
    if isinstance(array, Tensor):
        return tensor.to(array.device)
    if _supports_dlpack(array):
        # CuPy's arrays do not name their namespace, which is the module that they are defined in.
        has_namespace = hasattr(array, "__array_namespace__")
        namespace = array.__array_namespace__() if has_namespace else sys.modules[type(array).__module__]
        return namespace.from_dlpack(tensor)
    return tensor.cpu().numpy()[()]


def _supports_dlpack(array: Array) -> bool:
    return hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray)
