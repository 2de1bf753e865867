"""Which implementation of a kernel runs."""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor

BACKENDS = ("auto", "torch", "triton")


def choose_backend(backend: str, tensor: Tensor) -> str:
    """ "torch" or "triton"; "auto" takes Triton for CUDA tensors and torch elsewhere.

    Raises ValueError for another name, RuntimeError for a backend that cannot run on the tensor's device.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
    if backend == "auto":
        return "triton" if tensor.is_cuda and find_spec("triton") else "torch"
    if backend == "triton" and not find_spec("triton"):
        raise RuntimeError("backend 'triton' needs the package triton, which is not installed; 'torch' can run")
    if backend == "triton" and not (tensor.is_cuda or interpreting()):
        raise RuntimeError(
            f"backend 'triton' needs tensors on a CUDA device; these are on {tensor.device}, where 'torch' can run"
        )
    return backend


def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter, on the CPU."""
    from triton import knobs

    return knobs.runtime.interpret
