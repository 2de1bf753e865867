"""Turn what one launch does wrong into findings that name source lines."""

from __future__ import annotations

import numpy as np

from ptx.arithmetic import Array
from ptx.findings import Finding, Findings, Severity
from ptx.memory import Access, Segment
from ptx.program import Program
from ptx.races import Batch, Race


class Report:
    """Adds the findings of one launch."""

    def __init__(self, findings: Findings, program: Program) -> None:
        self.findings = findings
        self.program = program

    def _add(self, kind: str, severity: Severity, index: int, other: int | None, count: int, example: str) -> None:
        listing = self.program.listing
        here = listing.describe_source(index)
        there = "" if other is None else listing.describe_source(other)
        example = f"{example}, {listing.describe_ptx(index)}"
        self.findings.add(Finding(kind, severity, self.program.name, here, there, example), count)

    def race(self, race: Race) -> None:
        """Report racing threads, apart by warps and values and by the instruction they race with."""
        batch = race.batch
        for across in (True, False):
            for same in (True, False):
                chosen = (race.across_warps == across) & (race.same_value == same)
                kind = f"{race.kind}, {'across warps' if across else 'in a warp'}"
                kind += ", same value" if same else ""
                for other in np.unique(race.other_indices[chosen]):
                    benign = same or self._is_stated_benign(batch.index, int(other))
                    severity = _race_severity(race.kind, across, benign)
                    lanes = np.flatnonzero(chosen & (race.other_indices == other))
                    first = lanes[0]
                    threads = f"threads {batch.threads[first]} and {race.other_threads[first]}"
                    example = f"{batch.segment.name}[{batch.cells[first]}] {threads}"
                    self._add(kind, severity, batch.index, int(other), len(lanes), example)

    def _is_stated_benign(self, index: int, other: int) -> bool:
        return all(self.program.listing.states_benign_race(number) for number in (index, other))

    def cta_race(self, kind: str, batch: Batch, same_value: Array, other_indices: Array) -> None:
        """Report accesses to elements that another CTA accessed."""
        for same in (True, False):
            chosen = np.flatnonzero(same_value == same)
            if len(chosen):
                first = chosen[0]
                text = kind + (", same value" if same else "")
                severity = Severity.BENIGN if same else Severity.CTA_RACE
                example = f"{batch.segment.name}[{batch.cells[first]}]"
                self._add(text, severity, batch.index, int(other_indices[first]), len(chosen), example)

    def undefined_read(self, batch: Batch) -> None:
        """Report reads of what was never written."""
        segment = batch.segment
        kind = f"read of never-written {'shared memory' if segment.is_shared else 'memory'}"
        example = f"{segment.name}[{batch.cells[0]}] thread {batch.threads[0]}"
        self._add(kind, Severity.UNDEFINED, batch.index, None, len(batch.cells), example)

    def out_of_bounds(self, segment: Segment, offsets: Array, access: Access) -> None:
        """Report accesses outside of all segments; `offsets` are bytes from the start of the nearest one."""
        kind = f"{'shared' if access.is_shared else 'global'} access out of bounds"
        example = f"{segment.name}[{int(offsets[0]) // segment.granule}] of {segment.num_cells} elements"
        self._add(kind, Severity.INVALID, access.index, None, len(offsets), example)

    def misaligned(self, segment: Segment, offsets: Array, access: Access) -> None:
        """Report accesses whose address is no multiple of their size."""
        example = f"{segment.name} byte {offsets[0]}, {access.num_bytes} bytes at once"
        self._add("misaligned access", Severity.INVALID, access.index, None, len(offsets), example)

    def different_barriers(self, indices: set[int | None], cta: tuple[int, ...]) -> None:
        """Report threads of a CTA that wait at different barriers, None being the end of the kernel."""
        listing = self.program.listing
        sources = ("the end" if index is None else listing.describe_source(index) for index in indices)
        kind = "threads at different barriers"
        here = " | ".join(sorted(sources))
        self.findings.add(Finding(kind, Severity.INVALID, self.program.name, here, "", f"CTA {cta}"))


def _race_severity(kind: str, across_warps: bool, benign: bool) -> Severity:
    if benign:
        return Severity.BENIGN
    if "atomic" in kind:
        return Severity.ATOMIC
    return Severity.RACE if across_warps else Severity.WARP_RACE
