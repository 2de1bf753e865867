"""A kernel with a choice of faults, which the emulator must find."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import triton
import triton.language as tl

from ptx.runner import Case

FAULTS = {
    "no barrier": "read after write, across warps",
    "mask off by one": "global access out of bounds",
    "unwritten element": "read of never-written memory",
}
"""Faults that `reverse` can have, and what the emulator reports."""


@triton.jit
def reverse_kernel(
    values_ptr,
    scratch_ptr,
    result_ptr,
    n,
    LOADED_PAST_END: tl.constexpr,
    FIRST_STORED: tl.constexpr,
    BARRIER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copy n int32 values to scratch memory, and from there in reverse order to the result."""
    lane = tl.arange(0, BLOCK)
    valid = lane < n
    values = tl.load(values_ptr + lane, mask=lane < n + LOADED_PAST_END)
    tl.store(scratch_ptr + lane, values, mask=valid & (lane >= FIRST_STORED))
    if BARRIER:
        tl.debug_barrier()
    tl.store(result_ptr + lane, tl.load(scratch_ptr + n - 1 - lane, mask=valid), mask=valid)


def reverse(values: torch.Tensor, fault: str = "", *, backend: str) -> torch.Tensor:
    """Return `[n]` int32 values in reverse order, n <= 128."""
    if backend == "torch":
        return values.flip(0)
    result, scratch = torch.empty_like(values), torch.empty_like(values)
    reverse_kernel[(1,)](
        values,
        scratch,
        result,
        len(values),
        LOADED_PAST_END=int(fault == "mask off by one"),
        FIRST_STORED=int(fault == "unwritten element"),
        BARRIER=fault != "no barrier",
        BLOCK=128,
        num_warps=4,
    )
    return result


def make_case(fault: str = "") -> Case:
    """Return a case with one of the faults, or none."""
    values = torch.arange(100, dtype=torch.int32)
    return Case(name=f"example with {fault or 'no fault'}", run=partial(reverse, values, fault))


def cases() -> Iterator[Case]:
    """Yield the kernel without a fault."""
    yield make_case()
