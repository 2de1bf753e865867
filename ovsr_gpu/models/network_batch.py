"""Where the networks run, and in what batches and precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.config import ModelConfig

CPU_PIXELS = 1 << 18
GPU_BATCH = 64
_convolutions = RLock()


@dataclass(frozen=True)
class NetworkBatch:
    """How many rows go through a network at a time: at most `most`, or exactly so many if they are to be `full`."""

    most: int
    full: bool = False

    @classmethod
    def of(cls, side: int, device: torch.device, config: ModelConfig) -> NetworkBatch:
        """The batch for images of `side` x `side` pixels.

        On a CPU a few: activations that outgrow the caches cost more than a larger batch gains.
        """
        most = max(1, CPU_PIXELS // side**2) if device.type == "cpu" else GPU_BATCH
        return cls(config.batch or most, config.full_batches)

    def halved(self) -> NetworkBatch:
        return replace(self, most=max(1, self.most // 2))

    def run(self, network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """`network(rows)` for at most `most` rows, zeros behind them where the batch is to be full."""
        blank = self.most - len(rows) if self.full else 0
        if not blank:
            return network(rows)
        return network(pad(rows, [0, 0] * (rows.ndim - 1) + [0, blank]))[: len(rows)]


def clip_dtype(device: torch.device, config: ModelConfig) -> torch.dtype:
    """What CLIP's image tower computes in."""
    precision = config.clip_precision or ("float16" if device.type == "cuda" else "float32")
    return getattr(torch, precision)


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Convolutions on CUDA in float32 throughout, where torch otherwise rounds their factors to TF32's 10 bits.

    The setting belongs to the whole process, so threads that queue convolutions in here wait for each other.
    """
    with _convolutions:
        newer = torch.backends.cudnn.conv  # type: ignore[attr-defined]
        if newer.fp32_precision == "ieee":  # and then torch does not let the older flag be read
            yield
            return
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
