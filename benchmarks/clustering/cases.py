"""The cases of the clustering benchmark."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple


class Case(NamedTuple):
    """One case: `batch` images, each a grid of `side` x `side` pixels with `rank` channels."""

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


SERIES = (  # operation, provider, dtype; the GPU kernels come first, so that an interrupted run has measured them
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
"""Values of each axis; the other axes keep the defaults of `Case`."""

TINY_SIDE = 10
"""The only grid side with `--tiny`."""
LARGE_BATCH = 256
GRID_SIDES, GRID_BATCHES = (28, 40, 56, 64), (1, 8, 64, LARGE_BATCH)


def cases(full: bool) -> list[Case]:
    """Return the sweeps of all series.

    Args:
        full: Whether to add the large batch and, for the Triton kernels, every combination of the grid.
    """
    selected = []
    for series in SERIES:
        operation, provider, _ = series
        axes = ("side", "batch") if operation == "cut" else tuple(SWEEPS)
        selected += [Case(*series)._replace(**{axis: value}) for axis in axes for value in SWEEPS[axis]]
        if full:
            selected.append(Case(*series, batch=LARGE_BATCH))
        if full and provider == "triton":
            grid = product(GRID_SIDES, GRID_BATCHES, SWEEPS["data"])
            selected += [Case(*series, side=side, batch=batch, data=data) for side, batch, data in grid]
    return list(dict.fromkeys(selected))
