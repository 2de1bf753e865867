"""Memory segments, and the accesses of instructions to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ptx.arithmetic import Array
from ptx.races import Shadow

ATOMIC_OPERATIONS = {"add", "min", "max", "and", "or", "xor", "exch", "cas"}


@dataclass(frozen=True)
class Access:
    """What an instruction does to memory, apart from the addresses.

    index: The instruction. num_values: Elements that each thread loads or stores (`.v2`, `.v4`). operation: Of an
    atomic instruction. returns_old: The program uses what an atomic instruction returns. is_acq_rel: An atomic
    instruction orders all other accesses, too.
    """

    index: int
    is_shared: bool
    dtype: type
    num_values: int = 1
    operation: str = ""
    returns_old: bool = False
    is_acq_rel: bool = False

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.dtype).itemsize

    @property
    def num_bytes(self) -> int:
        return self.size * self.num_values


class Segment:
    """A range of addresses with its contents.

    Args:
        name: For reports.
        base: Address of the first byte.
        data: Contents `[bytes]`, uint8.
        granule: Bytes of the elements ("cells") for which accesses are recorded.
        undefined: Whether each cell was never written, or None if all are defined.
        many_ctas: Record which CTA accesses what.
    """

    def __init__(
        self,
        name: str,
        base: int,
        data: Array,
        granule: int,
        undefined: Array | None = None,
        many_ctas: bool = False,
        is_shared: bool = False,
    ) -> None:
        self.name, self.base, self.data, self.granule = name, base, data, granule
        self.size = data.size
        self.num_cells = -(-data.size // granule)
        self.undefined = undefined
        self.is_shared = is_shared
        self.shadow = Shadow(self.num_cells, many_ctas)
        self._shift = granule.bit_length() - 1
        self._views: dict[type, Array] = {}

    def view(self, dtype: type) -> Array:
        """Return the contents as an array of a type."""
        if dtype not in self._views:
            size = np.dtype(dtype).itemsize
            self._views[dtype] = self.data[: self.size // size * size].view(dtype)
        return self._views[dtype]

    def cells(self, offsets: Array, num_bytes: int) -> list[Array]:
        """Return the cells that accesses of some bytes touch, one array for each cell of a thread."""
        first = offsets >> self._shift
        return [first + k if k else first for k in range(max(1, num_bytes >> self._shift))]


class AccessCounter:
    """Counts the memory requests of warps and the sectors of 32 bytes that they touch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, access: Access, address: Array, threads: Array, kind: str) -> None:
        """Count an instruction of some threads."""
        warps = (threads >> 5).astype(np.int64)
        self.counts[f"{'shared' if access.is_shared else 'global'} {kind} warps"] += len(np.unique(warps))
        if access.is_shared:
            return
        self.counts[f"global {kind} sectors"] += len(np.unique((address >> 5) | (warps << 50)))
        if kind == "atom":
            self.counts["atom lanes"] += len(address)
            self.counts["acq_rel atom warps"] += len(np.unique(warps)) if access.is_acq_rel else 0
