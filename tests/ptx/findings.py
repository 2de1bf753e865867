"""What the emulator finds: one entry for each pair of source lines, however often they meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum


class Severity(str, Enum):
    """How bad a finding is."""

    INVALID = "invalid"
    """An access out of bounds or misaligned, or threads of a CTA at different barriers."""
    RACE = "race"
    """Two warps access an element without a barrier in between, at least one of them to write."""
    CTA_RACE = "race of CTAs"
    UNDEFINED = "undefined"
    """A read of memory that was never written."""
    WARP_RACE = "race in a warp"
    """Threads of one warp do so. Threads that do not diverge take instructions together, so most are harmless."""
    ATOMIC = "atomic"
    """A plain access races with an atomic one, which is often intended."""
    BENIGN = "benign"
    """A race in which all write the value that was there, or that a comment in the source calls benign."""

    @property
    def is_error(self) -> bool:
        return self in (Severity.INVALID, Severity.RACE, Severity.CTA_RACE, Severity.UNDEFINED)


@dataclass
class Finding:
    """Two accesses, or one, that should not be.

    here, there: Source lines of the later and the earlier access. example: One occurrence. cases: Occurrences in
    each test case.
    """

    kind: str
    severity: Severity
    kernel: str
    here: str
    there: str
    example: str
    cases: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.cases.total()

    def lines(self) -> Iterator[str]:
        yield f"{self.severity.value}: {self.kind} in {self.kernel}, {self.count} times in {len(self.cases)} cases"
        yield f"    here:  {self.here}"
        if self.there:
            yield f"    there: {self.there}"
        yield f"    e.g.   {self.example}"


class Findings:
    """A collection of findings.

    Attributes:
        case: Name of the test case that runs.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple, Finding] = {}
        self.case = ""

    def add(self, finding: Finding, count: int = 1) -> None:
        """Count an occurrence in the case that runs; of findings that agree but for the example, keep the first."""
        key = (finding.kind, finding.severity, finding.kernel, finding.here, finding.there)
        if key not in self._entries:
            finding.example += f" [{self.case}]"
        self._entries.setdefault(key, finding).cases[self.case] += count

    def __iter__(self) -> Iterator[Finding]:
        return iter(sorted(self._entries.values(), key=lambda entry: (entry.severity.value, entry.kernel, entry.kind)))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def errors(self) -> list[Finding]:
        """Those that make a test fail."""
        return [finding for finding in self if finding.severity.is_error]
