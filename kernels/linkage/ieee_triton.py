"""Correctly rounded arithmetic in Triton, whose plain float32 division and root are approximations on the device.

With it, and with the fusion of multiply and add switched off, the kernels round as torch does on a CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def divide(a, b):
    if a.dtype == tl.float64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def square_root(a):
    if a.dtype == tl.float64:
        return tl.sqrt(a)
    else:
        return tl.sqrt_rn(a)
