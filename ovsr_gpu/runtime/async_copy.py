"""Asynchronous copies between host and device on separate CUDA streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy tensors to a device; copies from pinned memory overlap with computation on the device.

    Args:
        tensors: Tensors of any shapes and dtypes.
        device: Target device.

    Returns:
        The tensors on `device`, ready for use on its current stream.
    """
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    compute_stream, copy_stream = torch.cuda.current_stream(device), _copy_stream(device, "to the device")
    with torch.cuda.stream(copy_stream):
        copies = [tensor.to(device, non_blocking=True) for tensor in tensors]
    compute_stream.wait_stream(copy_stream)
    for copy in copies:
        copy.record_stream(compute_stream)
    return copies


class PendingTensors:
    """Asynchronous copies of tensors to the host, started on construction; only `wait` blocks.

    Args:
        *tensors: Tensors of any shapes and dtypes, usually on a device.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._tensors = tensors
        if tensors and all(tensor.is_cuda for tensor in tensors):
            device = tensors[0].device
            copy_stream = _copy_stream(device, "to the host")
            copy_stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(copy_stream):
                self._tensors = tuple(map(_to_pinned_memory, tensors))
                self._copied = torch.cuda.Event()
                self._copied.record()
            for tensor in tensors:
                tensor.record_stream(copy_stream)

    def wait(self) -> tuple[Tensor, ...]:
        """Return the tensors on the host; blocks until they are copied, but not for work queued on the device later."""
        if self._copied is not None:
            self._copied.synchronize()
        return tuple(tensor.cpu() for tensor in self._tensors)


class PendingInteger(PendingTensors):
    """Asynchronous copy of one integer to the host.

    Args:
        value: Integer scalar tensor.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__(value)

    def read(self) -> int:
        """Return the integer; blocks until it is copied."""
        return int(self.wait()[0])


def _to_pinned_memory(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


@cache
def _copy_stream(device: torch.device, direction: str) -> torch.cuda.Stream:
    """Return the stream for the copies in one direction; the device has a copy engine for each."""
    return torch.cuda.Stream(device)
