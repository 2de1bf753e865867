"""Lower bounds on the time of an operation from the arithmetic and the memory bandwidth of a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from clustering.cases import Case

ITEM_BYTES = {"float32": 4, "float64": 8, "int64": 8}
COPY_BYTES = 1 << 30
MATRIX_SIDE = 8192
REPEATS = 10


class Rates(NamedTuple):
    """Rates of a device per second: bytes copied (read plus written), and operations in float32 and in float64."""

    bytes: float
    float32: float
    float64: float


def measured_rates(device: torch.device) -> Rates:
    """Measure the rates with copies of 1 GiB and matrix products of 8192 x 8192, in float32 without TF32."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * COPY_BYTES / seconds_of(lambda: target.copy_(source))

    def operations(dtype: torch.dtype) -> float:
        matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE, dtype=dtype, device=device)
        product = torch.empty_like(matrix)
        return 2 * MATRIX_SIDE**3 / seconds_of(lambda: torch.mm(matrix, matrix, out=product))

    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return Rates(copied, operations(torch.float32), operations(torch.float64))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of one call, the mean of several consecutive calls, measured by CUDA events."""
    call()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(REPEATS):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / REPEATS


def min_seconds(case: Case, rates: Rates) -> float:
    """Return a lower bound on the seconds of one call: the larger of its memory time and its arithmetic time.

    With P points of R channels, s bytes per number and 3R operations per distance (subtract, multiply, add), an image
    needs

    - full graph: rounds that merge pairs halve the number of clusters at best, so nearest neighbors are searched among
      P^2 (1 + 1/4 + 1/16 + ...) = 4/3 P^2 distances (measured: 2.1 to 4.7 P^2 on smooth data and noise). The cheaper of
      two implementations counts: store the distances, so that each pair is computed once and a matrix of s P^2 bytes is
      written and searched; or recompute them in every round and only read the points.
    - pixel graph: 6.5 P distances, for the 2 P edges of the grid and at least 4.5 new edges per merge (4.5 to 8.9 on
      the data of the benchmark); the points are read once.
    - cut: 16 P bytes of children read and 8 P bytes of labels written; the arithmetic is negligible.

    Linkages also write 24 + s bytes per merge. The bound assumes that the whole device is busy, which is not the case
    for a single image or for merges that depend on each other.
    """
    points = case.side**2
    size = ITEM_BYTES[case.dtype]
    if case.operation == "cut":
        return case.batch * 24 * points / rates.bytes
    rate = {"float32": rates.float32, "float64": rates.float64}[case.dtype]
    input_output = points * (case.rank * size + 24 + size)  # bytes of points read and tree written

    def seconds(num_bytes: float, distances: float) -> float:
        return case.batch * max(num_bytes / rates.bytes, 3 * case.rank * distances / rate)

    if case.operation == "pixel":
        return seconds(input_output, 6.5 * points)
    searched = 4 / 3 * points**2
    stored = seconds(input_output + size * (points**2 + searched), points**2 / 2)
    recomputed = seconds(input_output, searched)
    return min(stored, recomputed)
