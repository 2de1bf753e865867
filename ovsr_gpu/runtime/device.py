"""The devices to run on."""

from __future__ import annotations

import torch


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


def choose_devices(wanted: str) -> list[torch.device]:
    """The devices named, with commas between them; "all" is every CUDA device that there is.

    Raises ValueError as `choose_device` does, and where "all" are none.
    """
    if wanted != "all":
        return [choose_device(name.strip()) for name in wanted.split(",")]
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    if not devices:
        raise ValueError("there is no CUDA device here that 'all' could stand for; name 'cpu' or leave it out")
    return devices
