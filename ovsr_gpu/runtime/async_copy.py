"""Copies between the host and the device, beside the computation and without a wait of the host."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on `device`; what lies in pinned memory travels while the device goes on computing."""
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    computing, copying = torch.cuda.current_stream(device), _copy_stream(device, "to the device")
    with torch.cuda.stream(copying):
        copies = [tensor.to(device, non_blocking=True) for tensor in tensors]
    computing.wait_stream(copying)
    for copy in copies:
        copy.record_stream(computing)
    return copies


class PendingTensors:
    """Tensors on the device that the host reads later: the copies start at once, and only `wait` waits for them."""

    def __init__(self, *tensors: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._tensors = tensors
        if tensors and all(tensor.is_cuda for tensor in tensors):
            device = tensors[0].device
            copying = _copy_stream(device, "to the host")
            copying.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(copying):
                self._tensors = tuple(map(_to_pinned_memory, tensors))
                self._arrived = torch.cuda.Event()
                self._arrived.record()
            for tensor in tensors:
                tensor.record_stream(copying)

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the host, once they have arrived; what the device was given after them runs on meanwhile."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return tuple(tensor.cpu() for tensor in self._tensors)


class PendingInteger(PendingTensors):
    """One integer, a scalar tensor on the device, likewise."""

    def __init__(self, value: Tensor) -> None:
        super().__init__(value)

    def read(self) -> int:
        return int(self.wait()[0])


def _to_pinned_memory(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


@cache
def _copy_stream(device: torch.device, direction: str) -> torch.cuda.Stream:
    """A stream for the copies of one direction, each of which the device has an engine for."""
    return torch.cuda.Stream(device)
