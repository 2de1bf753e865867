"""Batch size and numeric precision of the networks."""

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
"""Number of input pixels in a batch on the CPU."""

GPU_BATCH = 64
"""Number of inputs in a batch on a GPU."""

_convolutions = RLock()


@dataclass(frozen=True)
class NetworkBatch:
    """The batch size of a network.

    Attributes:
        max_rows: Maximum number of inputs in one forward pass.
        is_fixed: Whether every forward pass has exactly `max_rows` inputs, padded with zeros.
    """

    max_rows: int
    is_fixed: bool = False

    @classmethod
    def of(cls, side: int, device: torch.device, config: ModelConfig) -> NetworkBatch:
        """Choose the batch size for square inputs.

        The default on a CPU is small, because activations that exceed the caches cost more than a larger batch saves.

        Args:
            side: Height and width of an input, in pixels.
            device: Device that runs the network.
            config: Its `batch` overrides the default; its `full_batches` asks for a fixed batch size.

        Returns:
            The batch size.
        """
        max_rows = max(1, CPU_PIXELS // side**2) if device.type == "cpu" else GPU_BATCH
        return cls(config.batch or max_rows, config.full_batches)

    def halved(self) -> NetworkBatch:
        """Return this with half the batch size, at least 1."""
        return replace(self, max_rows=max(1, self.max_rows // 2))

    def run(self, network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Run the network on one batch.

        Args:
            network: Function from `[n, ...]` to `[n, ...]`.
            rows: `[n, ...]` inputs, n at most `max_rows`; padded to `max_rows` where the batch size is fixed.

        Returns:
            `network(rows)`, `[n, ...]`, without the outputs of the padding.
        """
        num_padding = self.max_rows - len(rows) if self.is_fixed else 0
        if not num_padding:
            return network(rows)
        return network(pad(rows, [0, 0] * (rows.ndim - 1) + [0, num_padding]))[: len(rows)]


def clip_dtype(device: torch.device, config: ModelConfig) -> torch.dtype:
    """Return the dtype of CLIP's image tower: `config.clip_precision`, by default float16 on CUDA, else float32."""
    precision = config.clip_precision or ("float16" if device.type == "cuda" else "float32")
    return getattr(torch, precision)


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Compute convolutions on CUDA in full float32; by default torch rounds their factors to TF32's 10 bits.

    The setting is global to the process, so threads that run convolutions in this context wait for each other.
    """
    with _convolutions:
        fp32_setting = torch.backends.cudnn.conv  # type: ignore[attr-defined]
        if fp32_setting.fp32_precision == "ieee":  # torch then refuses to read the older flag
            yield
            return
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
