"""Estimate what a launch costs on a GPU.

The time is that of one CTA alone on its multiprocessor. Each warp issues its instructions in order, one as soon as its
operands are ready. The warps of a scheduler take turns, so an instruction takes as many issue slots as the scheduler
has warps. Fences are left out. Latencies in cycles are those that others measured on Hopper; nothing is calibrated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ptx.launch import Launch
from ptx.parser import Instruction
from ptx.program import Program

CLOCK_HZ = 1.755e9  # H100 SXM, boost
NUM_SCHEDULERS = 4
L1_LATENCY, L2_LATENCY = 45, 270
SHARED_LATENCY = 30
ATOMIC_LATENCY = 350
BARRIER_LATENCY = 25
WARP_LATENCY = 24  # shfl, redux
ALU_LATENCY, FLOAT64_LATENCY, WIDE_MULTIPLY_LATENCY = 4.5, 8, 12
DIVISION_LATENCY = {"f32": 40, "f64": 130, "32": 50, "64": 90}
SQRT_LATENCY = {"f32": 45, "f64": 135}
DIVISION_SLOTS = {"f32": 10, "f64": 30, "32": 20, "64": 60}
SQRT_SLOTS = {"f32": 12, "f64": 25}
_WIDE_TYPES = ("s64", "u64", "b64")
_TWO_SLOT_NAMES = ("add", "sub", "mul", "mad", "min", "max", "shl", "setp", "selp", "and", "or")
_WITHOUT_RESULT = ("st", "bra", "bar", "ret", "red")
_REGISTER = re.compile(r"%\w+")


def latency(instruction: Instruction, l2_fraction: float) -> float:
    """Return the cycles until the result of an instruction is ready.

    Args:
        instruction: The instruction.
        l2_fraction: Fraction of the global loads that miss the first cache.
    """
    name, kind = instruction.name, instruction.type
    if name == "ld" and "global" in instruction.modifiers:
        return L1_LATENCY * (1 - l2_fraction) + L2_LATENCY * l2_fraction
    if name == "ld" and any(modifier.startswith("shared") for modifier in instruction.modifiers):
        return SHARED_LATENCY
    if name in ("shfl", "redux"):
        return WARP_LATENCY
    if name == "atom":
        return ATOMIC_LATENCY
    if name in ("div", "rem"):
        return DIVISION_LATENCY[_division_type(kind)]
    if name == "sqrt":
        return SQRT_LATENCY[kind]
    if kind == "f64":
        return FLOAT64_LATENCY
    if name in ("mul", "mad") and kind.endswith("64"):
        return WIDE_MULTIPLY_LATENCY
    return ALU_LATENCY


def issue_slots(instruction: Instruction) -> float:
    """Return roughly how many machine instructions an instruction becomes."""
    name, kind = instruction.name, instruction.type
    if name in ("div", "rem"):
        return DIVISION_SLOTS[_division_type(kind)]
    if name == "sqrt":
        return SQRT_SLOTS[kind]
    if kind in _WIDE_TYPES and name in _TWO_SLOT_NAMES:
        return 2
    return 0.5 if name in ("mov", "cvt") else 1


def _division_type(kind: str) -> str:
    if kind[0] == "f":
        return kind
    return "64" if kind.endswith("64") else "32"


def block_cycles(program: Program, start: int, end: int, l2_fraction: float) -> float:
    """Return the cycles that a warp takes for the instructions [start, end) beside the other warps of its CTA."""
    warps_per_scheduler = max(1.0, program.num_warps / NUM_SCHEDULERS)
    ready: dict[str, float] = {}
    now = 0.0
    for i in program.instructions[start:end]:
        reads = _REGISTER.findall(i.text)
        writes = [] if i.name in _WITHOUT_RESULT or not i.operands else _REGISTER.findall(i.operands[0])
        for register in writes:
            reads.remove(register)
        if i.name == "mov" and i.operands[0] in writes and not reads:  # a constant
            ready.pop(i.operands[0], None)
            continue
        now = max([now, *(ready.get(register, 0.0) for register in reads)])
        now += issue_slots(i) * warps_per_scheduler
        if i.name == "bar":
            now += BARRIER_LATENCY
        for register in writes:
            ready[register] = now + latency(i, l2_fraction)
    return now


@dataclass(frozen=True)
class Cost:
    """What a launch costs, all figures for one CTA.

    Attributes:
        kernel: Its name.
        grid: CTAs along each axis.
        num_warps: Warps of a CTA.
        instructions: PTX instructions of a warp.
        barriers: Of the CTA.
        debug_barriers: Of the barriers those that stand in the source.
        accesses: Memory requests of warps, and sectors of 32 bytes that they touch.
        mix: Instructions of a warp by kind.
        cycles: By the fraction of global loads that miss the first cache.
        lines: Fraction of the time by source line.
    """

    kernel: str
    grid: tuple[int, ...]
    num_warps: int
    instructions: float
    barriers: float
    debug_barriers: float
    accesses: Counter[str]
    mix: Counter[str]
    cycles: dict[float, float]
    lines: Counter[str]

    @property
    def acq_rel_atomics(self) -> float:
        """Requests of warps for atomic operations that order memory.

        Each stands between a fence and an invalidation of the first cache, which the model leaves out.
        """
        return self.accesses["acq_rel atom warps"]

    def report(self) -> Iterator[str]:
        """Yield the lines of a report."""
        yield f"{self.kernel}, grid {self.grid}, {self.num_warps} warps, for one CTA:"
        yield (
            f"  {self.instructions:,.0f} PTX instructions a warp, {self.barriers:,.0f} barriers "
            f"({self.debug_barriers:,.0f} of them in the source), {self.acq_rel_atomics:,.0f} acq_rel atomics"
        )
        yield "  accesses:     " + ", ".join(f"{name} {count:,.0f}" for name, count in sorted(self.accesses.items()))
        yield "  instructions: " + ", ".join(f"{name} {count:,.0f}" for name, count in self.mix.most_common(12))
        for l2_fraction, cycles in self.cycles.items():
            microseconds = cycles / CLOCK_HZ * 1e6
            yield f"  model, {l2_fraction:.0%} of the loads from L2: {cycles:,.0f} cycles = {microseconds:,.0f} us"
        yield "  lines:        " + ", ".join(f"{line} {part:.0%}" for line, part in self.lines.most_common(8))


def launch_cost(launch: Launch) -> Cost:
    """Estimate the cost of a launch that ran with `count_accesses`."""
    if launch.access_counter is None:
        raise ValueError("the launch did not count its accesses: set LaunchOptions.count_accesses")
    program, num_ctas = launch.program, launch.num_ctas
    cycles = {
        l2_fraction: sum(
            count * block_cycles(program, start, end, l2_fraction) for count, start, end in _blocks(launch)
        )
        for l2_fraction in (0.0, 0.5, 1.0)
    }
    lines: Counter[str] = Counter()
    for count, start, end in _blocks(launch):
        lines[_source_line(program, start, end)] += count * block_cycles(program, start, end, 0.5)
    return Cost(
        kernel=program.name,
        grid=launch.grid,
        num_warps=program.num_warps,
        instructions=launch.num_instructions / num_ctas,
        barriers=launch.num_barriers / num_ctas,
        debug_barriers=launch.num_debug_barriers / num_ctas,
        accesses=_scaled(launch.access_counter.counts, num_ctas),
        mix=_scaled(program.mix(launch.block_counts), num_ctas),
        cycles={l2_fraction: total / num_ctas for l2_fraction, total in cycles.items()},
        lines=_scaled(lines, lines.total()),
    )


def _scaled(counts: Counter[str], divisor: float) -> Counter[str]:
    return Counter({name: count / divisor for name, count in counts.items()})


def _blocks(launch: Launch) -> Iterator[tuple[int, int, int]]:
    """Yield how often each basic block ran, and its instructions."""
    program = launch.program
    for count, start, end in zip(launch.block_counts, program.block_starts, program.block_ends, strict=True):
        if count:
            yield count, start, end


def _source_line(program: Program, start: int, end: int) -> str:
    """Return the source line of the kernel itself, not of the function inlined there, that a block belongs to."""
    instructions = program.instructions[start:end]
    i = next((i for i in instructions if i.location.line), instructions[0])
    location = i.location
    file, line = location.caller_file or location.file, location.caller_line or location.line
    return f"{program.listing.file_name(file)}:{line}"
