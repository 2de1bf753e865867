"""Compile a Triton kernel to PTX for a GPU that need not be there."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource, make_backend
from triton.runtime import jit

from ptx.program import Program

CACHE = Path(tempfile.gettempdir()) / "ptx_emulator_cache"
"""Triton's caches for what is compiled here. Their entries lack the cubin, so no other program may use them."""


@contextmanager
def _only_to_ptx(source_file: str) -> Iterator[None]:
    """Leave out the last compiler stage, from PTX to machine code, which takes most of the time.

    PTX names its source files, but Triton's cache does not tell copies of a file apart: each folder has its own cache.
    """
    add_stages, init = CUDABackend.add_stages, CUDABackend.__init__

    def add_stages_to_ptx(backend: CUDABackend, stages: dict, *arguments: Any) -> None:
        add_stages(backend, stages, *arguments)
        stages.pop("cubin")

    def init_for_ptx(backend: CUDABackend, target: GPUTarget) -> None:
        init(backend, target)
        backend.binary_ext = "ptx"

    with (
        knobs.cache.scope(),
        mock.patch.object(CUDABackend, "add_stages", add_stages_to_ptx),
        mock.patch.object(CUDABackend, "__init__", init_for_ptx),
    ):
        knobs.cache.dir = str(CACHE / hashlib.sha256(str(Path(source_file).parent).encode()).hexdigest()[:16])
        yield


@dataclass(frozen=True)
class BoundKernel:
    """A kernel compiled for the arguments of a launch, and the arguments that its PTX takes, by name."""

    program: Program
    arguments: dict[str, Any]


class Compiler:
    """Compiles kernels, each specialization once.

    Args:
        capability: Of the GPU, such as 90 for Hopper.
        specialize: Let Triton specialize on arguments that are 1 or divisible by 16, as it does on a GPU.
    """

    def __init__(self, capability: int = 90, specialize: bool = True) -> None:
        self.specialize = specialize
        self.target = GPUTarget("cuda", capability, 32)
        self._programs: dict[str, Program] = {}

    def bind(self, kernel: jit.JITFunction, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> BoundKernel:
        """Return the kernel compiled for the arguments of a launch."""
        backend = make_backend(self.target)
        binder = jit.create_function_from_signature(kernel.signature, kernel.params, backend)
        keywords = {**keywords, "debug": False}
        bound, specialization, options = binder(*arguments, **keywords)
        if not self.specialize:
            specialization = [
                self._generic(kind, attributes, parameter, bound[parameter.name])
                for (kind, attributes), parameter in zip(specialization, kernel.params, strict=True)
            ]
        options, signature, constants, attributes = kernel._pack_args(backend, keywords, bound, specialization, options)
        constant_items = sorted(constants.items(), key=str)
        key = repr((inspect.getfile(kernel.fn), kernel.cache_key, signature, constant_items, attributes, vars(options)))
        if key not in self._programs:
            source = ASTSource(kernel, signature, constants, attributes)
            self._programs[key] = self._compile(kernel, source, vars(options))
        taken = {name: bound[name] for name, kind in signature.items() if kind != "constexpr"}
        return BoundKernel(self._programs[key], taken)

    @staticmethod
    def _generic(kind: str, attributes: str, parameter: jit.KernelParam, value: Any) -> tuple[str, str]:
        """Return the specialization of a parameter without what its value allows to assume."""
        if kind != "constexpr":
            return kind, ""
        is_integer_one = not parameter.is_constexpr and isinstance(value, int)
        return ("i32", "") if is_integer_one else (kind, attributes)

    def _compile(self, kernel: jit.JITFunction, source: ASTSource, options: dict[str, Any]) -> Program:
        with _only_to_ptx(inspect.getfile(kernel.fn)):
            compiled = triton.compile(source, target=self.target, options=options)
        ptx = compiled.asm["ptx"]
        module = kernel.fn.__module__.rpartition(".")[2]
        return Program(
            ptx if isinstance(ptx, str) else ptx.decode(),
            name=f"{module}.{kernel.fn.__name__}",
            shared_bytes=compiled.metadata.shared,
            num_warps=compiled.metadata.num_warps,
        )
