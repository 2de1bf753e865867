"""Basic blocks, and where threads that take different branches come together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ptx.arithmetic import Array
from ptx.parser import Listing

if TYPE_CHECKING:
    from ptx.thread_group import ThreadGroup

_NEEDS_ALL_THREADS = ("bar", "barrier", "shfl", "redux", "ldmatrix", "stmatrix", "ret")


class ControlFlow:
    """The basic blocks of a kernel.

    Attributes:
        starts, ends: Instruction ranges of the blocks.
        successors: Blocks that can follow each block; the number of blocks stands for the end of the kernel.
    """

    def __init__(self, listing: Listing) -> None:
        instructions, labels = listing.instructions, listing.labels
        starts = {0, *(labels[i.operands[0]] for i in instructions if i.name == "bra")}
        starts.update(i.index + 1 for i in instructions if i.name in ("bra", "ret"))
        self._listing = listing
        self.starts = sorted(start for start in starts if start < len(instructions))
        self.ends = [*self.starts[1:], len(instructions)]
        self._number = {start: number for number, start in enumerate(self.starts)}
        self.successors = [self._successors(number) for number in range(len(self.starts))]

    def target(self, label: str) -> int:
        """Return the block at a label."""
        return self._number.get(self._listing.labels[label], len(self.starts))

    def _successors(self, block: int) -> list[int]:
        last = self._listing.instructions[self.ends[block] - 1]
        follows = [block + 1] if last.name not in ("bra", "ret") or last.guard else []
        if last.name == "bra":
            follows.append(self.target(last.operands[0]))
        return [*follows, len(self.starts)] if last.name == "ret" else follows

    def joins(self) -> dict[int, int]:
        """Return the join of each block that ends in a conditional branch at which threads may disagree.

        The join is the first block that all paths from the branch pass. Branches are left out if threads wait for each
        other, exchange values or exit before the join.
        """
        passed = self._post_dominators()
        joins = {}
        for block, successors in enumerate(self.successors):
            later = passed[block] - {block}
            if len(successors) == 2 and later:
                join = max(later, key=lambda other: len(passed[other]))
                if join < len(self.starts) and not self._needs_all_threads(successors, join):
                    joins[block] = join
        return joins

    def _post_dominators(self) -> list[set[int]]:
        """Return the blocks that all paths from each block to the end pass, itself included."""
        end = len(self.starts)
        passed = [set(range(end + 1)) for _ in range(end)] + [{end}]
        changed = True
        while changed:
            changed = False
            for block in reversed(range(end)):
                common = set.intersection(*(passed[other] for other in self.successors[block])) | {block}
                if common != passed[block]:
                    passed[block], changed = common, True
        return passed

    def _needs_all_threads(self, first: list[int], join: int) -> bool:
        """Return whether a block on the way to the join holds an instruction that all threads must reach."""
        seen, waiting = {join}, list(first)
        while waiting:
            block = waiting.pop()
            if block in seen:
                continue
            seen.add(block)
            instructions = self._listing.instructions[self.starts[block] : self.ends[block]]
            if any(i.name in _NEEDS_ALL_THREADS for i in instructions):
                return True
            waiting += self.successors[block]
        return False


@dataclass
class Fork:
    """A branch at which the threads of a group disagree: they first run one side, then the other, up to the join."""

    taken: int
    other: int
    join: int
    mask: Array
    outer_mask: Array | None = None
    start: tuple[Array, ...] = ()
    result: tuple[Array, ...] | None = None

    def enter(self, group: ThreadGroup, registers: tuple[Array, ...]) -> int:
        """Let the threads that take the branch run; return their block."""
        self.start, self.outer_mask = registers, group.mask
        group.mask = self.mask if self.outer_mask is None else self.mask & self.outer_mask
        return self.taken

    def switch(self, group: ThreadGroup, registers: tuple[Array, ...]) -> tuple[int, tuple[Array, ...]]:
        """Let the other threads run; return their block and registers."""
        self.result = registers
        group.mask = ~self.mask if self.outer_mask is None else ~self.mask & self.outer_mask
        return self.other, self.start

    def join_threads(self, group: ThreadGroup, registers: tuple[Array, ...]) -> tuple[Array, ...]:
        """Let all threads run again; return their registers."""
        group.mask = self.outer_mask
        pairs = zip(self.result, registers, strict=True)
        return tuple(one if one is other else np.where(self.mask, one, other) for one, other in pairs)
