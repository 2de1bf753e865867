"""Run cases in the emulator, compare their results with the CPU path, and collect what is found."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from ptx.emulated import Emulator
from ptx.findings import Findings
from ptx.launch import Launch, LaunchOptions

EMULATED_BACKEND, REFERENCE_BACKEND = "triton", "torch"
_FILLS = (0xAB, 0xFF, 0x7F)


def equal(result: Any, expected: Any) -> bool:
    """Return whether tensors, or tuples of them, are equal in shape, dtype and every bit but those of NaN."""
    if not isinstance(result, torch.Tensor):
        return all(equal(one, other) for one, other in zip(result, expected, strict=True))
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return False
    return torch.equal(result, expected) or bool(((result == expected) | (result.isnan() & expected.isnan())).all())


@contextmanager
def tuned(module: ModuleType, settings: Mapping[str, Any]) -> Iterator[None]:
    """Change settings of a kernel module, in its dictionary `TUNING` or as module attributes.

    Raises:
        AttributeError: The module has no such setting.
    """
    with ExitStack() as patches:
        for name, value in settings.items():
            if name in module.TUNING:
                patches.enter_context(mock.patch.dict(module.TUNING, {name: value}))
            else:
                patches.enter_context(mock.patch.object(module, name, value))
        yield


@dataclass(frozen=True)
class Case:
    """A call of a public function that launches kernels.

    Attributes:
        name: Unique.
        run: Called with `backend=`, returns tensors.
        check: Returns whether a result agrees with that of the reference backend.
        number: Varies what memory is filled with and whether Triton may specialize on the arguments.
        tuning: Settings of kernel modules.
        capability: Of the GPU to compile for.
        options: How to run; the number overrides the fill.
    """

    name: str
    run: Callable[..., Any]
    check: Callable[[Any, Any], bool] = equal
    number: int = 0
    tuning: tuple[tuple[ModuleType, Mapping[str, Any]], ...] = ()
    capability: int = 90
    options: LaunchOptions = field(default_factory=LaunchOptions)

    def emulate(self, findings: Findings) -> tuple[Any, list[Launch]]:
        """Return the result of the emulated kernels, and their launches."""
        options = LaunchOptions(**{**vars(self.options), "fill": _FILLS[self.number % len(_FILLS)]})
        specialize = self.number % 4 != 3
        emulator = Emulator(findings, options, capability=self.capability, specialize=specialize)
        findings.case = self.name
        with ExitStack() as contexts:
            for module, settings in self.tuning:
                contexts.enter_context(tuned(module, settings))
            contexts.enter_context(emulator)
            result = self.run(backend=EMULATED_BACKEND)
        return result, emulator.launches

    def expected(self) -> Any:
        """Return the result of the CPU path."""
        return self.run(backend=REFERENCE_BACKEND)


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    name: str
    passed: bool
    note: str


class Runner:
    """Runs cases and keeps their outcomes.

    Args:
        only: Run the cases whose names contain this text.
        minutes: Start no case after this time; 0 for no limit.

    Attributes:
        findings: Of all cases, except that
        strict_findings: are those of cases that count only the barriers of the source. They tell what rests on how
            Triton lowers reductions and scans, and fail no case.
    """

    def __init__(self, only: str = "", minutes: float = 0) -> None:
        self.only = only
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.findings, self.strict_findings = Findings(), Findings()
        self.outcomes: list[Outcome] = []
        self.left_out: list[str] = []

    def wants(self, name: str) -> bool:
        """Return whether to run a case; note it as left out if time is up."""
        if self.only not in name:
            return False
        if time.monotonic() > self.deadline:
            self.left_out.append(name)
            return False
        return True

    def run_all(self, cases: Iterable[Case]) -> None:
        """Run cases one after another and print a line for each."""
        for case in cases:
            if self.wants(case.name):
                self.add(self.run(case))

    def add(self, outcome: Outcome) -> None:
        """Keep and print an outcome."""
        self.outcomes.append(outcome)
        print(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name}: {outcome.note}", flush=True)

    def run(self, case: Case) -> Outcome:
        """Run a case. It passes if its result agrees and no error is found."""
        findings = self.strict_findings if case.options.strict else self.findings
        start = time.monotonic()
        try:
            result, launches = case.emulate(findings)
            agrees = case.check(result, case.expected())
            problems = [] if agrees else ["the result differs"]
        except Exception as error:  # a case that cannot run is a failed one; the others go on
            launches, problems = [], [f"{type(error).__name__}: {' '.join(str(error).split())}"]
        if not case.options.strict:
            problems += [finding.kind for finding in findings.errors if finding.cases[case.name]]
        num_instructions = sum(launch.num_instructions for launch in launches)
        num_barriers = sum(launch.num_barriers for launch in launches)
        counts = f"{num_instructions} instructions, {num_barriers} barriers, {time.monotonic() - start:.1f} s"
        return Outcome(case.name, not problems, "; ".join([*problems, counts]))

    def report(self, verbose: bool = False) -> Iterator[str]:
        """Yield the lines of a summary, with the findings that are errors or, if verbose, all of them."""
        strict = "findings if only the barriers of the source counted, which are not errors"
        for findings, title in ((self.findings, "findings"), (self.strict_findings, strict)):
            if len(findings):
                counts = Counter(finding.severity.value for finding in findings)
                yield f"\n{title}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
            for finding in findings if verbose else findings.errors:
                yield from finding.lines()
        failed = [outcome for outcome in self.outcomes if not outcome.passed]
        yield ""
        yield from (f"FAIL {outcome.name}: {outcome.note}" for outcome in failed)
        if self.left_out:
            yield f"{len(self.left_out)} cases left out, as the time is up; the first: {self.left_out[0]}"
        yield f"{len(self.outcomes) - len(failed)} passed, {len(failed)} failed"

    @property
    def all_passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)
