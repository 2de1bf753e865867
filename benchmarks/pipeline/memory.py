"""The peak memory of a call."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Call a function and return its peak memory in bytes, in addition to the memory in use before.

    On CUDA this is the memory of torch's tensors; on a CPU under Linux, the resident memory of the process; elsewhere
    None.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or sys.platform != "linux":
        call()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # memory that earlier calls freed could be reused without being counted
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the current resident memory
    before = process_peak_bytes()
    call()
    return process_peak_bytes() - before


def process_peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
