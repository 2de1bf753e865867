"""Arrays of any kind as tensors, and back."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A NumPy array, a torch tensor, any other array with DLPack such as CuPy's, or nested lists of numbers."""


def as_tensor(array: Array, dtype: str | None = None, device: torch.device | str | None = None) -> Tensor:
    """The array as a tensor, by default of its own dtype and where it lies; it is never written to."""
    if isinstance(array, Tensor):
        tensor = array.detach()
    elif _speaks_dlpack(array):
        tensor = torch.from_dlpack(array)
    else:
        tensor = torch.from_numpy(np.array(array, dtype=dtype, order="C"))
    return tensor.to(device=device, dtype=getattr(torch, dtype) if dtype else None)


def like(array: Array, tensor: Tensor) -> Array:
    """The tensor as the kind of array that `array` is, where `array` lies; NumPy gets a scalar for no dimensions."""
    if isinstance(array, Tensor):
        return tensor.to(array.device)
    if _speaks_dlpack(array):
        # CuPy's arrays do not name their namespace, which is the module that they are defined in.
        named = hasattr(array, "__array_namespace__")
        namespace = array.__array_namespace__() if named else sys.modules[type(array).__module__]
        return namespace.from_dlpack(tensor)
    return tensor.cpu().numpy()[()]


def _speaks_dlpack(array: Array) -> bool:
    return hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray)
