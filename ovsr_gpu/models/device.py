"""Which device to run on."""

from __future__ import annotations

import torch

CPU_PIXELS = 1 << 18
GPU_BATCH = 64


def network_batch(device: torch.device, side: int) -> int:
    """How many pictures of `side` x `side` pixels go through a network at a time.

    On a CPU a few: activations that outgrow the caches cost more than a larger batch gains.
    """
    return max(1, CPU_PIXELS // side**2) if device.type == "cpu" else GPU_BATCH


def choose_device(wanted: str | torch.device) -> torch.device:
    """The device named, or for "auto" CUDA where there is one, else the CPU; MPS is taken only by name.

    Raises ValueError for a device that is unknown or not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"{device.type} devices are not supported")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be 'auto', 'cpu', or a cuda or mps device that is there; got {wanted!r}: {reason}"
        ) from error
    return device
