"""The entries of the clustering benchmark."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple


class Case(NamedTuple):
    """One entry: `batch` images of a `side` x `side` grid with `rank` channels a pixel."""

    operation: str
    provider: str
    dtype: str
    side: int = 28
    batch: int = 8
    rank: int = 16
    data: str = "smooth"

    def __str__(self) -> str:
        return (
            f"{self.operation}-{self.provider}-{self.dtype}"
            f"-{self.side}x{self.side}-B{self.batch}-R{self.rank}-{self.data}"
        )


SERIES = (  # operation, provider, dtype; the device's own first, so that a run cut short has them
    ("full", "triton", "float32"),
    ("pixel", "triton", "float32"),
    ("pixel", "triton", "float64"),
    ("full", "torch", "float32"),
    ("pixel", "heap", "float32"),
    ("pixel", "heap", "float64"),
    ("pixel", "torch", "float32"),
    ("pixel", "torch", "float64"),
    ("cut", "torch", "int64"),
    ("full", "scipy", "float64"),
    ("full", "scipy_processes", "float64"),
    ("full", "fastcluster", "float64"),
    ("full", "fastcluster_processes", "float64"),
    ("pixel", "sklearn", "float64"),
    ("pixel", "sklearn_processes", "float64"),
    ("cut", "scipy", "float64"),
    ("cut", "scipy_processes", "float64"),
)
SWEEPS: dict[str, tuple] = {
    "side": (10, 20, 28, 40, 56, 64),
    "rank": (1, 4, 16, 64),
    "batch": (1, 8, 64),
    "data": ("smooth", "noise", "constant", "constant_75"),
}
"""Values of each axis while the others stay at the defaults of `Case`."""

TINY_SIDE = 10
"""The only side with `--tiny`."""
LARGE_BATCH = 256
GRID_SIDES, GRID_BATCHES = (28, 40, 56, 64), (1, 8, 64, LARGE_BATCH)


def cases(full: bool) -> list[Case]:
    """The sweeps of every series; with `full` the large batch too, and every combination for the Triton kernels."""
    chosen = []
    for series in SERIES:
        operation, provider, _ = series
        axes = ("side", "batch") if operation == "cut" else tuple(SWEEPS)
        chosen += [Case(*series)._replace(**{axis: value}) for axis in axes for value in SWEEPS[axis]]
        if full:
            chosen.append(Case(*series, batch=LARGE_BATCH))
        if full and provider == "triton":
            grid = product(GRID_SIDES, GRID_BATCHES, SWEEPS["data"])
            chosen += [Case(*series, side=side, batch=batch, data=data) for side, batch, data in grid]
    return list(dict.fromkeys(chosen))
