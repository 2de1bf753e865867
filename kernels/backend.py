"""Which implementation of a kernel runs."""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor


def choose_backend(backend: str, tensor: Tensor, on_cpu: str = "torch") -> str:
    """ "torch", "triton" or `on_cpu`; "auto" takes Triton for CUDA tensors, `on_cpu` for those on a CPU, else torch.

    Raises ValueError for another name, RuntimeError for a backend that cannot run on the tensor's device.
    """
    names = dict.fromkeys(("auto", "torch", "triton", on_cpu))
    if backend not in names:
        raise ValueError(f"backend must be one of {', '.join(names)}; got {backend!r}")
    if backend == "auto":
        if tensor.is_cuda and find_spec("triton"):
            return "triton"
        return on_cpu if tensor.is_cpu else "torch"
    if backend not in ("torch", "triton") and not tensor.is_cpu:
        raise RuntimeError(
            f"backend {backend!r} needs tensors on the CPU; these are on {tensor.device}, where 'torch' can run"
        )
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
