"""A guard that detects host synchronizations on a CPU, where they cost nothing and are otherwise invisible."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ovsr_gpu.kernels
import ovsr_gpu.runtime.async_copy

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount, aten.is_nonzero}
READS |= {aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave}
FROM_HOST = {aten.lift_fresh}  # torch.tensor and new_tensor: on a GPU, the host waits for the copy
DRIVERS = {
    aten._linalg_svd,
    aten._linalg_eigh,
    aten.linalg_qr,
    aten.linalg_cholesky_ex,
}  # these read an error flag back
KERNELS = str(Path(ovsr_gpu.kernels.__path__[0]))
"""Not checked: the CPU path runs there; tests on a GPU check that the GPU path reads nothing."""


class NoHostReads(TorchDispatchMode):
    """A dispatch mode that raises AssertionError if an operation waits for the device or copies data from the host.

    Reading a `PendingInteger` is allowed; `num_pending_reads` counts these reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_pending_reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self._reads(func, args) and not (files := _files()) & {KERNELS}:
            if ovsr_gpu.runtime.async_copy.__file__ not in files:
                raise AssertionError(f"{func} would make the host wait for the device")
            self.num_pending_reads += 1
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _reads(func, args) -> bool:
        packet = func.overloadpacket
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
            return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        return packet in READS | FROM_HOST | DRIVERS


def _files() -> set[str]:
    """Return the files of the callers; all files of the kernels count as one."""
    files, frame = set(), sys._getframe()
    while frame:
        name = frame.f_code.co_filename
        files.add(KERNELS if name.startswith(KERNELS) else name)
        frame = frame.f_back
    return files


class Trace(NamedTuple):
    """What torch's profiler saw of a call on a CUDA device."""

    names: set[str]
    """Names of the events during the call."""
    synchronizations: list[str]
    copies_to_host: list[str]


def trace(call: Callable[[], object]) -> Trace:
    """Profile a call; the device is idle when it starts."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    with torch.profiler.profile() as profile, torch.profiler.record_function("traced call"):
        call()
    events = profile.events()
    span = next(event.time_range for event in events if event.name == "traced call")
    names = [event.name for event in events if span.start <= event.time_range.start <= span.end]
    synchronizations = [name for name in names if name in ("cudaStreamSynchronize", "cudaDeviceSynchronize")]
    # A copy may run on the device after the call has returned.
    copies = [event.name for event in events if event.name.startswith("Memcpy DtoH")]
    return Trace(set(names), synchronizations, copies)
