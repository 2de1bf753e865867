"""Numbers that the host must know, on their way from the device."""

from __future__ import annotations

import torch
from torch import Tensor


class LateInteger:
    """An integer on the device that the host reads later: the copy starts at once, and only `wait` waits for it.

    value: a scalar tensor of integers.
    """

    def __init__(self, value: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._number = value
        if value.is_cuda:
            self._number = torch.empty((), dtype=value.dtype, pin_memory=True)
            self._number.copy_(value, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def wait(self) -> int:
        """The number, once the device has come so far; what was queued after it runs on meanwhile."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return int(self._number)
