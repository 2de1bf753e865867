"""How fast a CUDA device could be: the time below which its arithmetic or its memory does not let an operation."""

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
    """What the device does a second: bytes copied (read and written), and operations in float32 and in float64."""

    bytes: float
    float32: float
    float64: float


def measured_rates(device: torch.device) -> Rates:
    """From copies of 1 GiB, and from matrix products of 8192 x 8192, float32 ones without TF32."""
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
    """Seconds of one call, the mean of some in a row, by the events of the device."""
    call()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(REPEATS):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / REPEATS


def least_seconds(case: Case, rates: Rates) -> float:
    """The floor of one call: the larger of its bytes at the rate of copies and its operations at that of products.

    With P points of R channels, s bytes a number and 3R operations a distance (subtract, multiply, add), an image has

    - full graph: rounds that join pairs at best halve the clusters, so that nearest neighbors are searched among
      P^2 (1 + 1/4 + 1/16 + ...) = 4/3 P^2 distances (2.1 to 4.7 P^2 on smooth data and noise, as counted). The cheaper
      of two ways counts: to keep them, each pair's computed once, a matrix of s P^2 bytes written and searched; or to
      compute them anew in every round, with the points alone read.
    - pixel graph: 6.5 P distances, of the 2 P edges of the grid and of at least 4.5 new edges a merge (4.5 to 8.9 on
      the data here), and the points read.
    - cut: 16 P bytes of children read and 8 P bytes of labels written, no arithmetic to speak of.

    Linkages also write 24 + s bytes a merge. The floor takes the whole device to be busy, as with one image or
    with merges that wait for one another it is not.
    """
    points = case.side**2
    size = ITEM_BYTES[case.dtype]
    if case.operation == "cut":
        return case.batch * 24 * points / rates.bytes
    rate = {"float32": rates.float32, "float64": rates.float64}[case.dtype]
    through = points * (case.rank * size + 24 + size)  # bytes of points read and tree written

    def seconds(moved: float, distances: float) -> float:
        return case.batch * max(moved / rates.bytes, 3 * case.rank * distances / rate)

    if case.operation == "pixel":
        return seconds(through, 6.5 * points)
    searched = 4 / 3 * points**2
    kept = seconds(through + size * (points**2 + searched), points**2 / 2)
    computed_anew = seconds(through, searched)
    return min(kept, computed_anew)
