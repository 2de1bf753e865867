"""Random numbers and arithmetic with bit-identical results on every platform.

Random numbers come only from the raw stream of a bit generator, whose values NumPy guarantees. Scenes are computed only
with elementwise addition, multiplication, division, comparison and floor, which IEEE 754 defines exactly. The last bits
of transcendental functions, of sums over an axis and of matrix products depend on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Field = NDArray[np.float32]


class RandomStream:
    """A stream of random numbers.

    Args:
        key: Integers; the same key gives the same stream.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform_array(self, *shape: int) -> Field:
        """Return uniform float32 numbers in [0, 1), multiples of 2^-24."""
        size = 1
        for side in shape:
            size *= side
        raw = self._bits.random_raw(size) >> np.uint64(40)
        return (raw.astype(np.float32) * np.float32(2**-24)).reshape(shape)

    def uniform(self, low: float, high: float) -> float:
        """Return a uniform number in [low, high)."""
        return low + (high - low) * float(self.uniform_array(1)[0])

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return low + int(self.uniform(0, 1) * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` of the options without replacement."""
        remaining = list(options)
        return [remaining.pop(self.integer(0, len(remaining) - 1)) for _ in range(count)]

    def rotation(self, max_half_tangent: float) -> tuple[float, float]:
        """Return cosine and sine of an angle between -2 atan(max_half_tangent) and 2 atan(max_half_tangent)."""
        half_tangent = self.uniform(-max_half_tangent, max_half_tangent)
        squared = half_tangent * half_tangent
        return (1 - squared) / (1 + squared), 2 * half_tangent / (1 + squared)

    def smooth_noise(self, height: int, width: int, cell_height: float, cell_width: float) -> Field:
        """Return smooth noise (value noise): random values on a lattice, interpolated by smoothstep.

        Args:
            height, width: Shape of the result.
            cell_height, cell_width: Size of a lattice cell in pixels.

        Returns:
            `[height, width]` float32 in [0, 1).
        """
        row, row_weight = self._lattice_positions(height, cell_height)
        column, column_weight = self._lattice_positions(width, cell_width)
        lattice = self.uniform_array(int(row[-1]) + 2, int(column[-1]) + 2)
        rows = lattice[row] + (lattice[row + 1] - lattice[row]) * row_weight[:, None]
        return rows[:, column] + (rows[:, column + 1] - rows[:, column]) * column_weight

    def _lattice_positions(self, size: int, cell_size: float) -> tuple[NDArray[np.int64], Field]:
        """Return the lattice index of each pixel and the smoothstep weight of the next index."""
        position = np.arange(size, dtype=np.float32) / np.float32(cell_size) + self.uniform_array(1)
        index = np.floor(position)
        part = position - index
        return index.astype(np.int64), part * part * (3 - 2 * part)


def soften(field: Field) -> Field:
    """Blur the rows and columns of `[H, W]` or `[H, W, 3]` with the weights 1/4, 1/2, 1/4."""
    for _ in range(2):
        padded = np.concatenate([field[:1], field, field[-1:]])
        field = (padded[:-2] + padded[2:] + 2 * field) * np.float32(0.25)
        field = field.swapaxes(0, 1)
    return field
