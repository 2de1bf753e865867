"""Detect races: what each memory element went through since the last barrier.

A CTA counts its barriers, and the time between two barriers is an epoch. The shadow of a segment holds, for each
element, the thread and epoch of its last write, read and atomic access. Two accesses of one epoch by different threads
race if at least one of them writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ptx.arithmetic import Array

if TYPE_CHECKING:
    from ptx.memory import Segment

_THREAD_BITS = 12
_SEVERAL_THREADS = (1 << _THREAD_BITS) - 1  # in the place of a thread
_NO_CTA, _SEVERAL_CTAS = -1, -2


class Shadow:
    """Access history of the elements ("cells") of a segment. Keys are `epoch << 12 | thread`."""

    def __init__(self, num_cells: int, many_ctas: bool) -> None:
        self.write_key = np.zeros(num_cells, np.int64)
        self.write_index = np.zeros(num_cells, np.int32)
        self.change_epoch = np.zeros(num_cells, np.int32)  # the last epoch in which a write changed the value
        self.read_key = np.zeros(num_cells, np.int64)
        self.read_index = np.zeros(num_cells, np.int32)
        self.threads_epoch = np.zeros(num_cells, np.int32)  # the last epoch in which several threads read
        self.warps_epoch = np.zeros(num_cells, np.int32)  # the last epoch in which several warps read
        self.atomic_key = np.zeros(num_cells, np.int64)
        self.atomic_index = np.zeros(num_cells, np.int32)
        self.any_atomic = False
        self.many_ctas = many_ctas
        if many_ctas:
            self.write_cta = np.full(num_cells, _NO_CTA, np.int32)
            self.read_cta = np.full(num_cells, _NO_CTA, np.int32)
            self.cta_index = np.zeros(num_cells, np.int32)


@dataclass(frozen=True)
class Batch:
    """Accesses of one instruction to a segment: one element (cell) for each thread."""

    segment: Segment
    cells: Array
    threads: Array
    index: int

    def select(self, chosen: Array) -> Batch:
        return Batch(self.segment, self.cells[chosen], self.threads[chosen], self.index)


@dataclass(frozen=True)
class Race:
    """Accesses that race with earlier ones, whose threads and instructions the arrays hold.

    same_value: The write leaves what was there.
    """

    kind: str
    batch: Batch
    other_threads: Array
    other_indices: Array
    across_warps: Array
    same_value: Array


class RaceReport(Protocol):
    """What receives the races."""

    def race(self, race: Race) -> None: ...

    def cta_race(self, kind: str, batch: Batch, same_value: Array, other_indices: Array) -> None: ...

    def undefined_read(self, batch: Batch) -> None: ...


class RaceDetector:
    """Checks the accesses of one CTA against the shadows of the segments, and updates these.

    Args:
        report: Receives what is found.
        cta: Number of the CTA.
        epoch_of: Returns the current epoch for a segment.
    """

    def __init__(self, report: RaceReport, cta: int, epoch_of: Callable[[Segment], int]) -> None:
        self.report = report
        self.cta = cta
        self.epoch_of = epoch_of

    def read(self, batch: Batch) -> None:
        """Check reads."""
        segment, cells = batch.segment, batch.cells
        shadow, epoch = segment.shadow, self.epoch_of(segment)
        key = batch.threads + (epoch << _THREAD_BITS)
        writer, bad = _conflicts(shadow.write_key, cells, key)
        if bad.any():
            unchanged = shadow.change_epoch[cells] != epoch
            self._report("read after write", batch, bad, writer, shadow.write_index, same_value=unchanged)
        if shadow.any_atomic:
            writer, bad = _conflicts(shadow.atomic_key, cells, key)
            self._report("read after atomic", batch, bad, writer, shadow.atomic_index)
        self._check_defined(batch)
        if shadow.many_ctas:
            self._check_ctas("read of another CTA's write", batch, shadow.write_cta)
            reader = shadow.read_cta[cells]
            other = ((reader >= 0) & (reader != self.cta)) | (reader == _SEVERAL_CTAS)
            shadow.read_cta[cells] = np.where(other, _SEVERAL_CTAS, self.cta)
        before = shadow.read_key[cells]
        shadow.read_key[cells] = key
        shadow.read_index[cells] = batch.index
        after = shadow.read_key[cells]  # of the last one of the threads that read this element now
        in_epoch = (before >> _THREAD_BITS) == epoch
        several = ((before != key) & in_epoch) | (after != key)
        if several.any():
            shadow.threads_epoch[cells[several]] = epoch
            several = (_other_warp(before, key) & in_epoch) | _other_warp(after, key)
            shadow.warps_epoch[cells[several]] = epoch

    def write(self, batch: Batch, before: Array, value: Array, after: Array) -> None:
        """Check writes of `value`; `before` and `after` are the contents of memory around the instruction."""
        segment, cells = batch.segment, batch.cells
        shadow, epoch = segment.shadow, self.epoch_of(segment)
        key = batch.threads + (epoch << _THREAD_BITS)
        unchanged = before == value
        writer, bad = _conflicts(shadow.write_key, cells, key)
        self._report("write after write", batch, bad, writer, shadow.write_index, same_value=unchanged)
        self._check_readers("write after read", batch, key, unchanged)
        if shadow.any_atomic:
            writer, bad = _conflicts(shadow.atomic_key, cells, key)
            self._report("write after atomic", batch, bad, writer, shadow.atomic_index)
        shadow.write_key[cells] = key
        shadow.write_index[cells] = batch.index
        clash = after != value
        self._report("two lanes write at once", batch, clash, shadow.write_key[cells], shadow.write_index)
        if shadow.many_ctas:
            self._check_ctas("write over another CTA's write", batch, shadow.write_cta, unchanged)
            self._check_ctas("write to what another CTA read", batch, shadow.read_cta, unchanged)
            shadow.write_cta[cells] = self.cta
            shadow.cta_index[cells] = batch.index
        if segment.undefined is not None:
            segment.undefined[cells] = False
        shadow.change_epoch[cells[~unchanged]] = epoch

    def atomic(self, batch: Batch) -> None:
        """Check atomic operations."""
        segment, cells = batch.segment, batch.cells
        shadow, epoch = segment.shadow, self.epoch_of(segment)
        shadow.any_atomic = True
        key = batch.threads + (epoch << _THREAD_BITS)
        writer, bad = _conflicts(shadow.write_key, cells, key)
        self._report("atomic after write", batch, bad, writer, shadow.write_index)
        self._check_readers("atomic after read", batch, key)
        self._check_defined(batch)
        if segment.undefined is not None:
            segment.undefined[cells] = False
        if shadow.many_ctas:
            shadow.write_cta[cells] = self.cta
            shadow.cta_index[cells] = batch.index
        before = shadow.atomic_key[cells]
        shadow.atomic_key[cells] = key
        mixed = ((before >> _THREAD_BITS == epoch) & (before != key)) | (shadow.atomic_key[cells] != key)
        shadow.atomic_key[cells[mixed]] = (epoch << _THREAD_BITS) | _SEVERAL_THREADS
        shadow.atomic_index[cells] = batch.index

    def _check_defined(self, batch: Batch) -> None:
        if batch.segment.undefined is not None:
            undefined = batch.segment.undefined[batch.cells]
            if undefined.any():
                self.report.undefined_read(batch.select(undefined))

    def _check_readers(self, kind: str, batch: Batch, key: Array, same_value: Array | None = None) -> None:
        """Report the writes to elements that another thread read in this epoch."""
        shadow, cells = batch.segment.shadow, batch.cells
        epoch = self.epoch_of(batch.segment)
        reader = shadow.read_key[cells]
        bad = ((reader >> _THREAD_BITS) == epoch) & ((reader != key) | (shadow.threads_epoch[cells] == epoch))
        if bad.any():
            across = _other_warp(reader, key) | (shadow.warps_epoch[cells] == epoch)
            self._report(kind, batch, bad, reader, shadow.read_index, same_value=same_value, across_warps=across)

    def _report(
        self,
        kind: str,
        batch: Batch,
        bad: Array,
        other_key: Array,
        other_index: Array,
        *,
        same_value: Array | None = None,
        across_warps: Array | None = None,
    ) -> None:
        """Report the accesses where `bad` is True, if any."""
        if not bad.any():
            return
        batch, other_threads = batch.select(bad), other_key[bad] & _SEVERAL_THREADS
        across = _other_warp(batch.threads, other_threads) if across_warps is None else across_warps[bad]
        same = np.zeros(len(batch.cells), bool) if same_value is None else same_value[bad]
        self.report.race(Race(kind, batch, other_threads, other_index[batch.cells], across, same))

    def _check_ctas(self, kind: str, batch: Batch, cta: Array, same_value: Array | None = None) -> None:
        """Report the accesses to elements that another CTA, as the array holds them, accessed."""
        other = cta[batch.cells]
        bad = (other != self.cta) & (other != _NO_CTA)
        if bad.any():
            same = np.zeros(len(bad), bool) if same_value is None else same_value
            indices = batch.segment.shadow.cta_index[batch.cells[bad]]
            self.report.cta_race(kind, batch.select(bad), same[bad], indices)


def _conflicts(keys: Array, cells: Array, key: Array) -> tuple[Array, Array]:
    """Return the keys of the elements, and where they are those of another thread in the same epoch."""
    other = keys[cells]
    return other, (other != key) & ((other >> _THREAD_BITS) == (key >> _THREAD_BITS))


def _other_warp(key: Array, other: Array) -> Array:
    return (key >> 5) != (other >> 5)
