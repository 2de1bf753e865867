"""Run all CTAs of a grid, one after another."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ptx.arithmetic import WARP_SIZE, Array
from ptx.findings import Findings
from ptx.memory import AccessCounter, Segment
from ptx.operands import SIGNED
from ptx.program import Program
from ptx.report import Report
from ptx.thread_group import ThreadGroup


@dataclass(frozen=True)
class LaunchOptions:
    """How a kernel is executed, and what is recorded.

    Args:
        schedule: "lockstep": all threads of a CTA take each instruction together. "warps": between two barriers one
            warp runs after another, in random order; the CTAs do, too.
        seed: For the random order.
        fill: Byte that undefined memory and registers hold.
        strict: Only the barriers that the source asks for (`tl.debug_barrier`) order accesses to global memory, not
            those of Triton's reductions and scans.
        detect_races: Find races and reads of undefined memory. Accesses out of bounds are always found.
        count_accesses: Count memory requests, for the cost model.
        block_limit: How often a basic block may run before the launch counts as endless.
    """

    schedule: str = "lockstep"
    seed: int = 0
    fill: int = 0xAB
    strict: bool = False
    detect_races: bool = True
    count_accesses: bool = False
    block_limit: int = 300_000


class Cta:
    """State of one CTA that its threads share."""

    def __init__(self, launch: Launch, number: int, shared: Segment, epoch: int) -> None:
        self.number = number
        self.shared = shared
        self.segments, self.bases = launch.segments, launch.bases
        self.report, self.access_counter = launch.report, launch.access_counter
        self.detects_races = launch.options.detect_races
        self.describe = launch.program.listing.describe_source
        self.epoch = self.global_epoch = epoch

    def epoch_of(self, segment: Segment) -> int:
        """Return the number of barriers so far, those that order accesses to the segment."""
        return self.epoch if segment.is_shared else self.global_epoch


class Launch:
    """One launch of a kernel.

    Args:
        program: The kernel.
        parameters: Values of the PTX parameters; a pointer is an address in one of the segments.
        segments: The global memory.
        grid: Number of CTAs along each axis.
        findings: Receives what is found.
        options: How to run.

    Attributes:
        block_counts: How often each basic block ran, for one thread of each CTA together.
        barriers: How often each barrier instruction ran, for all CTAs together.
    """

    def __init__(
        self,
        program: Program,
        parameters: Sequence[int | float],
        segments: Iterable[Segment],
        grid: Sequence[int],
        findings: Findings,
        options: LaunchOptions | None = None,
    ) -> None:
        self.program = program
        self.parameters = parameters
        self.grid = (*grid, *(1,) * (3 - len(grid)))
        self.segments = sorted(segments, key=lambda segment: segment.base)
        self.bases = np.array([segment.base for segment in self.segments], np.int64)
        self.options = options or LaunchOptions()
        self.report = Report(findings, program)
        self.access_counter = AccessCounter() if self.options.count_accesses else None
        self.block_counts = [0] * len(program.block_starts)
        self.barriers: Counter[int] = Counter()
        self._random = random.Random(self.options.seed)

    @property
    def num_ctas(self) -> int:
        return int(np.prod(self.grid))

    @property
    def num_instructions(self) -> int:
        """Instructions that one thread of each CTA runs, all CTAs together."""
        return self.program.mix(self.block_counts).total()

    @property
    def num_barriers(self) -> int:
        """Barriers of all CTAs."""
        return self.barriers.total()

    @property
    def num_debug_barriers(self) -> int:
        """Those that stand in the source."""
        is_debug_barrier = self.program.listing.is_debug_barrier
        return sum(count for index, count in self.barriers.items() if is_debug_barrier(index))

    def run(self) -> None:
        """Run the kernel.

        Raises:
            NotImplementedError: Threads that run together take different branches.
            RuntimeError: A basic block runs more often than the options allow.
        """
        ctas = [(x, y, z) for z, y, x in itertools.product(*map(range, reversed(self.grid)))]
        self._shuffle(ctas)
        size = max(self.program.shared_bytes, 16)
        shared = Segment("shared", 0, np.empty(size, np.uint8), 4, np.ones(-(-size // 4), bool), is_shared=True)
        epoch = 1
        with np.errstate(all="ignore"):
            for number, coordinates in enumerate(ctas):
                shared.undefined[:] = True
                shared.data[:] = self.options.fill
                epoch = self._run_cta(Cta(self, number, shared, epoch), coordinates) + 1

    def _run_cta(self, cta: Cta, coordinates: tuple[int, int, int]) -> int:
        """Run one CTA; return its last epoch."""
        listing = self.program.listing
        width = listing.num_threads if self.options.schedule == "lockstep" else WARP_SIZE
        threads = np.arange(listing.num_threads, dtype=np.int32)
        groups = [self._start(cta, coordinates, threads[k : k + width]) for k in range(0, len(threads), width)]
        alive = list(range(len(groups)))
        while alive:
            order = alive.copy()
            self._shuffle(order)
            reached = {k: next(groups[k], None) for k in order}
            barriers = set(reached.values())
            if len(barriers) > 1:
                self.report.different_barriers(barriers, coordinates)
            alive = [k for k in alive if reached[k] is not None]
            if alive:
                barrier = reached[alive[0]]
                self.barriers[barrier] += 1
                cta.epoch += 1
                if not self.options.strict or listing.is_debug_barrier(barrier):
                    cta.global_epoch = cta.epoch
        return cta.epoch

    def _start(self, cta: Cta, coordinates: tuple[int, int, int], threads: Array) -> Iterator[int]:
        """Return the generator that runs some threads."""
        width = len(threads)
        initial = {"bool": np.full(width, bool(self.options.fill & 1))}
        for size in (2, 4, 8):
            dtype = np.dtype(SIGNED[size])
            initial[dtype.name] = np.full(width * size, self.options.fill, np.uint8).view(dtype)
        return self.program.generator(
            group=ThreadGroup(cta, threads.astype(np.int64)),
            threads=threads,
            width=width,
            parameters=self.parameters,
            cta=coordinates,
            grid=self.grid,
            num_threads=self.program.listing.num_threads,
            counts=self.block_counts if threads[0] == 0 else [0] * len(self.block_counts),
            limit=self.options.block_limit,
            initial=initial,
        )

    def _shuffle(self, items: list) -> None:
        if self.options.schedule != "lockstep":
            self._random.shuffle(items)
