"""Loads, stores, atomic operations and branches of threads that run together."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ptx.arithmetic import Array
from ptx.memory import Access, Segment
from ptx.races import Batch, RaceDetector

if TYPE_CHECKING:
    from ptx.launch import Cta


def _exchange(old: Any, value: Any) -> Any:
    return value


_UPDATES: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "min": min,
    "max": max,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "exch": _exchange,
}
_UFUNCS = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


class ThreadGroup:
    """Threads that run together: what the generated code calls.

    Args:
        cta: The CTA that the threads belong to.
        threads: Their numbers, int64.

    Attributes:
        mask: The threads that run, None for all.
    """

    def __init__(self, cta: Cta, threads: Array) -> None:
        self.cta = cta
        self.threads = threads
        self.detector = RaceDetector(cta.report, cta.number, cta.epoch_of) if cta.detects_races else None
        self.mask: Array | None = None
        self._last: dict[int, Segment] = {}

    def agree(self, predicate: Array) -> bool:
        """Return whether all threads that run have the same predicate."""
        running = self._running(predicate)
        return bool((running == running[0]).all())

    def first(self, predicate: Array) -> bool:
        """Return the predicate of the first thread that runs."""
        return bool(self._running(predicate)[0])

    def uniform(self, predicate: Array, index: int) -> bool:
        """Return whether the group takes a branch, on which its threads must agree."""
        if not self.agree(predicate):
            where = self.cta.describe(index)
            raise NotImplementedError(f"threads that run together disagree at a branch: {where}")
        return self.first(predicate)

    def _running(self, array: Array) -> Array:
        return array if self.mask is None else array[self.mask]

    def stop(self, index: int) -> None:
        """Raise for a block that ran too often."""
        raise RuntimeError(f"a block runs without end: {self.cta.describe(index)}")

    def load(self, access: Access, address: Array, predicate: Array | None, old: list[Array]) -> list[Array]:
        """Return what the threads read, the `old` register contents where the predicate is False."""
        active = self._active(predicate)
        if active is not None and not len(active):
            return old
        address, threads = self._chosen(active, address, self.threads)
        self._count(access, address, threads, "ld")
        loaded = None
        for segment, lanes, offsets in self._resolve(access, address):
            view = segment.view(access.dtype)
            at = offsets >> (access.size.bit_length() - 1)
            values = [view[at + k] if k else view[at] for k in range(access.num_values)]
            if self.detector:
                (reading,) = self._chosen(lanes, threads)
                for cells in segment.cells(offsets, access.num_bytes):
                    self.detector.read(Batch(segment, cells, reading, access.index))
            if lanes is None and active is None and access.size > 1:
                return values
            if loaded is None:
                loaded = [register.copy() for register in old]
            place = lanes if active is None else active if lanes is None else active[lanes]
            for register, value in zip(loaded, values, strict=True):
                register[... if place is None else place] = value
        return [register.copy() for register in old] if loaded is None else loaded

    def load_matrix(self, access: Access, address: Array, number: int, transposed: bool = False) -> Array:
        """Return each thread's two elements of 16 bits of matrix `number` of ldmatrix, as int32."""
        parts = [np.zeros(len(address), access.dtype)] * 2
        for half in range(2):
            place = self._matrix_address(address, number, half, transposed)
            (parts[half],) = self.load(access, place, None, [parts[half]])
        return np.stack(parts, axis=1).view(np.int32).reshape(-1)

    def store_matrix(self, access: Access, address: Array, number: int, value: Array, transposed: bool = False) -> None:
        """Write what each thread holds of matrix `number` of stmatrix."""
        parts = value.view(access.dtype).reshape(-1, 2)
        for half in range(2):
            self.store(access, self._matrix_address(address, number, half, transposed), None, [parts[:, half]])

    @staticmethod
    def _matrix_address(address: Array, number: int, half: int, transposed: bool) -> Array:
        """Return where an element of a matrix lies; thread 8 * number + r of a warp holds the address of row r."""
        thread = np.arange(len(address))
        lane = thread & 31
        row, column = lane // 4, 2 * (lane % 4) + half
        if transposed:
            row, column = column, row
        return address[(thread & ~31) + 8 * number + row] + 2 * column.astype(np.int32)

    def store(self, access: Access, address: Array, predicate: Array | None, values: list[Array]) -> None:
        """Write the values of the threads for which the predicate is True."""
        active = self._active(predicate)
        if active is not None and not len(active):
            return
        address, threads, *values = self._chosen(active, address, self.threads, *values)
        self._count(access, address, threads, "st")
        for segment, lanes, offsets in self._resolve(access, address):
            view = segment.view(access.dtype)
            (writing,) = self._chosen(lanes, threads)
            for k, value in enumerate(self._chosen(lanes, *values)):
                start = offsets + k * access.size
                self._store_one(access, segment, view, start, value.astype(access.dtype), writing)

    def _store_one(
        self, access: Access, segment: Segment, view: Array, offsets: Array, value: Array, threads: Array
    ) -> None:
        place = offsets >> (access.size.bit_length() - 1)
        if self.detector is None:
            view[place] = value
            if segment.undefined is not None:
                for cells in segment.cells(offsets, access.size):
                    segment.undefined[cells] = False
            return
        before = view[place]
        view[place] = value
        after = view[place]
        for cells in segment.cells(offsets, access.size):
            self.detector.write(Batch(segment, cells, threads, access.index), before, value, after)

    def atomic(
        self,
        access: Access,
        address: Array,
        predicate: Array | None,
        old: Array | None,
        operand: Array,
        replacement: Array | None = None,
    ) -> Array | None:
        """Update memory one thread after another; return what each thread found, if the program uses that.

        For compare-and-swap, `operand` is the value to compare with.
        """
        active = self._active(predicate)
        if active is None:
            active = np.arange(len(self.threads))
        if not len(active):
            return old
        address, threads = address[active], self.threads[active]
        self._count(access, address, threads, "atom")
        result = old.copy() if access.returns_old else old
        for segment, lanes, offsets in self._resolve(access, address):
            view = segment.view(access.dtype)
            at = offsets >> (access.size.bit_length() - 1)
            place, updating = self._chosen(lanes, active, threads)
            values = operand[place]
            if self.detector:
                self.detector.atomic(Batch(segment, segment.cells(offsets, 1)[0], updating, access.index))
            if not access.returns_old and access.operation in _UFUNCS:
                _UFUNCS[access.operation].at(view, at, values)
                continue
            update = _UPDATES.get(access.operation)
            for thread, cell, value in zip(place, at, values, strict=True):
                if access.returns_old:
                    result[thread] = view[cell : cell + 1].view(result.dtype)[0]
                if update is not None:
                    view[cell] = update(view[cell], value)
                elif view[cell] == value:
                    view[cell] = replacement[thread]
        return result

    def _active(self, predicate: Array | None) -> Array | None:
        """Return the numbers of the active threads, None for all."""
        if self.mask is not None:
            predicate = self.mask if predicate is None else predicate & self.mask
        if predicate is None:
            return None
        active = np.flatnonzero(predicate)
        return None if len(active) == len(self.threads) else active

    @staticmethod
    def _chosen(lanes: Array | None, *arrays: Array) -> tuple[Array, ...]:
        """Return the arrays at some lanes, None for all."""
        return arrays if lanes is None else tuple(array[lanes] for array in arrays)

    def _count(self, access: Access, address: Array, threads: Array, kind: str) -> None:
        if self.cta.access_counter is not None:
            self.cta.access_counter.add(access, address, threads, kind)

    def _resolve(self, access: Access, address: Array) -> list[tuple[Segment, Array | None, Array]]:
        """Return the segments that are accessed, with the lanes (None for all) and their offsets in bytes.

        What is out of bounds is reported and left out.
        """
        found = self._resolve_shared(access, address) if access.is_shared else self._resolve_global(access, address)
        for segment, _, offsets in found:
            misaligned = offsets & (access.num_bytes - 1)
            if misaligned.any():
                self.cta.report.misaligned(segment, offsets[misaligned != 0], access)
        return found

    def _resolve_shared(self, access: Access, address: Array) -> list[tuple[Segment, Array | None, Array]]:
        segment = self.cta.shared
        if address.min() >= 0 and address.max() + access.num_bytes <= segment.size:
            return [(segment, None, address)]
        inside = (address >= 0) & (address + access.num_bytes <= segment.size)
        self.cta.report.out_of_bounds(segment, address[~inside], access)
        return [(segment, inside, address[inside])]

    def _resolve_global(self, access: Access, address: Array) -> list[tuple[Segment, Array | None, Array]]:
        segment = self._last.get(access.index)
        if segment is not None:
            low, high = int(address.min()), int(address.max()) + access.num_bytes
            if low >= segment.base and high <= segment.base + segment.size:
                return [(segment, None, address - segment.base)]
        found = []
        which = np.searchsorted(self.cta.bases, address, side="right") - 1
        for number in np.unique(which):
            lanes = which == number
            segment = self.cta.segments[max(number, 0)]
            offsets = address[lanes] - segment.base
            inside = (offsets >= 0) & (offsets + access.num_bytes <= segment.size)
            if not inside.all():
                self.cta.report.out_of_bounds(segment, offsets[~inside], access)
                lanes[np.flatnonzero(lanes)[~inside]] = False
                offsets = offsets[inside]
            if len(offsets):
                found.append((segment, lanes, offsets))
                self._last[access.index] = segment
        return found
