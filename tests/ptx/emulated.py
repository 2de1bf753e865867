"""Let functions that launch Triton kernels run in the emulator, on CPU tensors.

Example:
    with Emulator(findings) as emulator:
        full_graph_linkage(points, backend="triton")
    print(len(findings), emulator.launches[0].num_barriers)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
import torch
from triton import knobs
from triton.runtime import jit

from ptx.arithmetic import Array
from ptx.compile_ptx import Compiler
from ptx.findings import Findings
from ptx.launch import Launch, LaunchOptions
from ptx.memory import Segment

_FIRST_ADDRESS = 0x7F0000000000
_GAP = 1 << 20  # bytes between the segments, so that an access out of bounds hits none
_COMPILERS: dict[tuple[int, bool], Compiler] = {}


def get_compiler(capability: int, specialize: bool) -> Compiler:
    """Return the compiler for a GPU; it keeps what it has compiled."""
    return _COMPILERS.setdefault((capability, specialize), Compiler(capability, specialize))


@dataclass
class _Storage:
    """Memory that was allocated uninitialized.

    Attributes:
        storage: Keeps the memory alive, so that its address stays its own.
        undefined: Whether each byte was never written.
        snapshot: Contents when that was last known; the host may have written since.
    """

    storage: torch.UntypedStorage
    undefined: Array
    snapshot: Array


def _bytes_of(storage: torch.UntypedStorage) -> Array:
    """Return a view of a CPU storage."""
    if not storage.nbytes():
        return np.zeros(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr()))


class Emulator:
    """While it is entered, Triton kernels that are launched on CPU tensors run in the emulator.

    Args:
        findings: Receives what is found.
        options: How to run the kernels.
        capability: Of the GPU to compile for.
        specialize: As in `Compiler`.

    Attributes:
        launches: One entry for each launch.
    """

    def __init__(
        self,
        findings: Findings,
        options: LaunchOptions | None = None,
        *,
        capability: int = 90,
        specialize: bool = True,
    ) -> None:
        self.findings = findings
        self.options = options or LaunchOptions()
        self.compiler = get_compiler(capability, specialize)
        self.launches: list[Launch] = []
        self._storages: dict[int, _Storage] = {}
        self._patches = ExitStack()

    def __enter__(self) -> Emulator:
        if knobs.runtime.interpret:
            raise RuntimeError(
                "the emulator needs compiled kernels: unset TRITON_INTERPRET before the kernels are imported"
            )
        emulator = self

        def run(kernel: jit.JITFunction, *arguments: Any, grid: Sequence[int], warmup: bool = False, **keywords: Any):
            emulator._launch(kernel, arguments, grid, keywords)

        backend = import_module("ovsr_gpu.kernels.backend")  # here, as controls import changed kernels
        patch = self._patches.enter_context
        patch(mock.patch.object(jit.JITFunction, "run", run))
        patch(mock.patch.object(backend, "interpreting", lambda: True))  # lets CPU tensors through
        patch(mock.patch.object(torch, "empty", self._filling(torch.empty)))
        patch(mock.patch.object(torch, "empty_like", self._filling(torch.empty_like)))
        patch(mock.patch.object(torch.Tensor, "new_empty", self._filling(torch.Tensor.new_empty)))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        self._storages.clear()

    def _filling(self, allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Return an allocator whose memory is filled with a pattern and known as undefined."""

        def allocate_undefined(*arguments: Any, **keywords: Any) -> torch.Tensor:
            tensor = allocate(*arguments, **keywords)
            if not tensor.is_cpu:
                return tensor
            storage = tensor.untyped_storage()
            data = _bytes_of(storage)
            data[:] = self.options.fill
            if data.size:
                self._storages[storage.data_ptr()] = _Storage(storage, np.ones(data.size, bool), data.copy())
            return tensor

        return allocate_undefined

    def _launch(
        self, kernel: jit.JITFunction, arguments: Sequence[Any], grid: Sequence[int], keywords: dict[str, Any]
    ) -> None:
        bound = self.compiler.bind(kernel, arguments, keywords)
        many_ctas = int(np.prod(grid)) > 1
        segments: dict[int, Segment] = {}
        parameters: list[Any] = []
        base = _FIRST_ADDRESS
        for name, value in bound.arguments.items():
            if not isinstance(value, torch.Tensor):
                parameters.append(value)
                continue
            address = value.untyped_storage().data_ptr() or -len(segments) - 1  # empty tensors have no address
            if address not in segments:
                segments[address] = self._segment(name, base, value, many_ctas)
                base += -(-max(segments[address].size, 1) // 512) * 512 + _GAP
            elif name not in segments[address].name:
                segments[address].name += f"/{name}"
            parameters.append(segments[address].base + value.storage_offset() * value.element_size())
        parameters += [0] * (len(bound.program.listing.parameters) - len(parameters))
        launch = Launch(bound.program, parameters, segments.values(), grid, self.findings, self.options)
        try:
            launch.run()
        finally:
            self._update_undefined(segments)
        launch.segments = []  # frees the shadows
        self.launches.append(launch)

    def _segment(self, name: str, base: int, tensor: torch.Tensor, many_ctas: bool) -> Segment:
        """Return the memory behind a tensor as the kernel sees it, with one cell an element."""
        storage, granule = tensor.untyped_storage(), tensor.element_size()
        data = _bytes_of(storage)
        known = self._storages.get(storage.data_ptr())
        undefined = None
        if known is not None:
            # A byte that the host wrote can be as before by chance, but hardly a whole element.
            whole = data.size // granule * granule
            changed = (data != known.snapshot)[:whole].reshape(-1, granule).any(1)
            undefined = known.undefined[:whole].reshape(-1, granule).any(1) & ~changed
        return Segment(name, base, data, granule, undefined, many_ctas)

    def _update_undefined(self, segments: dict[int, Segment]) -> None:
        for address, segment in segments.items():
            known = self._storages.get(address)
            if known is not None:
                known.undefined[: segment.undefined.size * segment.granule] = np.repeat(
                    segment.undefined, segment.granule
                )
                known.snapshot = segment.data.copy()
