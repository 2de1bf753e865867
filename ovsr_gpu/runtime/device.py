"""Select the devices to run on."""

from __future__ import annotations

import torch


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device to run on.

    Args:
        device: "auto" for CUDA if available and otherwise the CPU, or a device: "cpu", "cuda", "cuda:N" or "mps". MPS
            is never chosen automatically.

    Returns:
        The device.

    Raises:
        ValueError: The device is unknown or not available.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"{chosen.type} devices are not supported")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be 'auto', 'cpu', or an available cuda or mps device; got {device!r}: {reason}"
        ) from error
    return chosen


def choose_devices(devices: str) -> list[torch.device]:
    """Return the devices to run on.

    Args:
        devices: Devices as for `choose_device`, separated by commas, or "all" for every CUDA device.

    Returns:
        The devices.

    Raises:
        ValueError: As `choose_device` does; also for "all" if there is no CUDA device.
    """
    if devices != "all":
        return [choose_device(name.strip()) for name in devices.split(",")]
    cuda_devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if not cuda_devices:
        raise ValueError("'all' stands for every CUDA device, but there is none; use 'cpu' or omit the option")
    return cuda_devices
