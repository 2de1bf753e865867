"""Random numbers and arithmetic that come out bit by bit the same on every platform.

Only the raw stream of a bit generator, whose values NumPy guarantees, is drawn from; everything that the scenes are
computed with is elementwise addition, multiplication, division, comparison and floor, which IEEE 754 fixes to the last
bit. Transcendental functions, sums over an axis and matrix products have last bits that depend on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Field = NDArray[np.float32]


class Draws:
    """A stream of random numbers that `key` determines."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def units(self, *shape: int) -> Field:
        """Uniform numbers in [0, 1), in multiples of 2^-24."""
        size = 1
        for side in shape:
            size *= side
        raw = self._bits.random_raw(size) >> np.uint64(40)
        return (raw.astype(np.float32) * np.float32(2**-24)).reshape(shape)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.units(1)[0])

    def whole(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + int(self.uniform(0, 1) * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones of `options`."""
        left = list(options)
        return [left.pop(self.whole(0, len(left) - 1)) for _ in range(count)]

    def turn(self, most: float) -> tuple[float, float]:
        """Cosine and sine of an angle of at most 2 atan(`most`) either way."""
        half = self.uniform(-most, most)
        return (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)

    def noise(self, height: int, width: int, cell_height: float, cell_width: float) -> Field:
        """Smooth noise in [0, 1): random values on a lattice of such cells, interpolated by smoothstep."""
        row, down = self._cells(height, cell_height)
        column, along = self._cells(width, cell_width)
        lattice = self.units(int(row[-1]) + 2, int(column[-1]) + 2)
        rows = lattice[row] + (lattice[row + 1] - lattice[row]) * down[:, None]
        return rows[:, column] + (rows[:, column + 1] - rows[:, column]) * along

    def _cells(self, size: int, cell: float) -> tuple[NDArray[np.int64], Field]:
        position = np.arange(size, dtype=np.float32) / np.float32(cell) + self.units(1)
        whole = np.floor(position)
        part = position - whole
        return whole.astype(np.int64), part * part * (3 - 2 * part)


def soften(field: Field) -> Field:
    """Blur rows and columns of `[H, W]` or `[H, W, 3]` with the weights 1/4, 1/2, 1/4."""
    for _ in range(2):
        ends = np.concatenate([field[:1], field, field[-1:]])
        field = (ends[:-2] + ends[2:] + 2 * field) * np.float32(0.25)
        field = field.swapaxes(0, 1)
    return field
