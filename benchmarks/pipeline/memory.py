"""How much memory a call takes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Make a call and say how many bytes it takes at its peak beyond those taken before.

    On CUDA those that torch's tensors take there, on a CPU under Linux those of the whole process in main memory; None
    elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or sys.platform != "linux":
        call()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = peak_of_process()
    call()
    return peak_of_process() - before


def peak_of_process() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
