"""Check that the emulator finds faults: it runs changed copies of the kernels.

A control removes one barrier, or damages a mask or an initialization. It passes if the emulator reports something that
it does not report for the unchanged kernels. Many barriers are only found to be missing if the barriers that Triton
adds for reductions and scans do not count (`strict`), as these happen to stand nearby.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch

import ovsr_gpu.kernels
from ptx import example_kernel
from ptx.findings import Finding, Findings, Severity
from ptx.runner import Case, Outcome, Runner

PACKAGE = "ovsr_gpu.kernels"
FOLDER = Path(ovsr_gpu.kernels.__path__[0])
BARRIER = "tl.debug_barrier()"


@dataclass(frozen=True)
class Edit:
    """A replacement in a source file of the kernels.

    Attributes:
        name: Of the control.
        file: Path below the kernels' folder.
        old: Text to replace.
        new: Replacement.
        occurrence: Which one of the places where the text stands.
    """

    name: str
    file: str
    old: str
    new: str
    occurrence: int = 0

    def apply(self, text: str) -> str:
        """Return the changed text of the file.

        Raises:
            ValueError: The text to replace does not occur.
        """
        parts = text.split(self.old)
        if len(parts) < self.occurrence + 2:
            raise ValueError(
                f"kernels/{self.file} has {len(parts) - 1} places with {self.old!r}, but the control changes "
                f"number {self.occurrence + 1}: adapt it to the source"
            )
        head, tail = parts[: self.occurrence + 1], parts[self.occurrence + 1 :]
        return self.old.join(head) + self.new + self.old.join(tail)


DAMAGES = (
    Edit(
        "mask of merges_upto off by one",
        "linkage/full_graph_triton.py",
        "mask=lane < made",
        "mask=lane <= made",
    ),
    Edit(
        "pair_of not initialized",
        "linkage/greedy_order_triton.py",
        "tl.store(pair_of + node, -1, mask=lane < live)",
        "pass",
    ),
)


def missing_barriers() -> Iterator[Edit]:
    """Yield an edit for each barrier in the kernels."""
    for path in sorted(FOLDER.rglob("*.py")):
        file = path.relative_to(FOLDER).as_posix()
        lines = (number for number, line in enumerate(path.read_text().splitlines(), 1) if BARRIER in line)
        for occurrence, line in enumerate(lines):
            yield Edit(f"{file} without the barrier of line {line}", file, BARRIER, "pass", occurrence)


def _write_copy(edit: Edit | None) -> Path:
    """Return the folder of a copy of the kernels with a change.

    The folder stays, as the compiler's cache does: writing only what differs lets several processes use it.
    """
    checkout = hashlib.sha256(str(FOLDER).encode()).hexdigest()[:16]
    name = "unchanged" if edit is None else "".join(char if char.isalnum() else "_" for char in edit.name)
    folder = Path(tempfile.gettempdir()) / "ptx_emulator_controls" / checkout / name
    for path in FOLDER.rglob("*.py"):
        text, copy = path.read_text(), folder / path.relative_to(FOLDER)
        if edit is not None and path == FOLDER / edit.file:
            text = edit.apply(text)
        if not copy.is_file() or copy.read_text() != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    return folder


@contextmanager
def changed_kernels(edit: Edit | None) -> Iterator[None]:
    """Import the kernels, and the cases that use them, from a changed copy; None: from an unchanged one."""
    folder = _write_copy(edit)
    saved = {name: module for name, module in sys.modules.items() if name.startswith((PACKAGE, "ptx.cases"))}
    for name in saved:
        del sys.modules[name]
    try:
        location = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(PACKAGE, location, submodule_search_locations=[str(folder)])
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith((PACKAGE, "ptx.cases"))]:
            del sys.modules[name]
        sys.modules.update(saved)


def _full_graph() -> list[Case]:
    make_case = import_module("ptx.cases.full_graph").make_case
    return [make_case("ward", "integer", 49, torch.float32, tuning, 0) for tuning in ("default", "small")]


def _single() -> list[Case]:
    make_case = import_module("ptx.cases.full_graph").make_case
    return [make_case("single", "integer", 100, torch.float32, "small", 0)]


def _pixel_graph() -> list[Case]:
    make_case = import_module("ptx.cases.pixel_graph").make_case
    return [
        make_case(method, "integer", 6, torch.float32, tuning, 0, connectivity="8")
        for tuning in ("small", "default")
        for method in ("ward", "average")
    ]


def _components() -> list[Case]:
    components = import_module("ptx.cases.components")
    labels = torch.randint(0, 3, (2, 10, 13), generator=torch.Generator().manual_seed(1))
    return [
        components.make_components_case("control", labels, "small"),
        components.make_absorb_case("control", labels, 9, "small"),
    ]


def _spectral() -> list[Case]:
    cases = import_module("ptx.cases.spectral").cases()
    return [case for case in cases if case.name == "spectral normal (40, 12) small"]


PROBES: dict[str, Callable[[], list[Case]]] = {
    "linkage/full_graph": _full_graph,
    "linkage/single": _single,
    "linkage/pixel_graph": _pixel_graph,
    "linkage/greedy_order": _pixel_graph,
    "components/": _components,
    "spectral/": _spectral,
}
"""Cases that reach the code of a file, by the start of its path."""


def run_controls(runner: Runner, edits: Iterable[Edit] | None = None) -> None:
    """Run the controls of the example kernel, and those of some edits, by default all.

    A barrier whose removal goes unnoticed may not be needed as compiled. It is an error only if no removal in its file
    is noticed.
    """
    for fault, kind in example_kernel.FAULTS.items():
        name = f"control example with {fault}"
        if runner.wants(name):
            findings = Findings()
            example_kernel.make_case(fault).emulate(findings)
            found = [finding.kind for finding in findings.errors]
            runner.add(Outcome(name, kind in found, f"reported: {', '.join(found) or 'nothing'}"))
    comparison = _Comparison()
    noticed_in: dict[str, bool] = {}
    for edit in (*DAMAGES, *missing_barriers()) if edits is None else edits:
        name = f"control {edit.name}"
        if runner.wants(name):
            is_barrier = edit.old == BARRIER
            try:
                noticed, note = comparison.check(edit)
            except Exception as error:  # a control that does not fit the kernels fails; the others go on
                runner.add(Outcome(name, False, f"{type(error).__name__}: {error}"))
                continue
            runner.add(Outcome(name, noticed or is_barrier, note))
            if is_barrier:
                noticed_in[edit.file] = noticed_in.get(edit.file, False) or noticed
    for file, noticed in noticed_in.items():
        if not noticed:
            runner.add(Outcome(f"control {file}", False, "no missing barrier is noticed"))


class _Comparison:
    """Compares the findings of changed kernels with those of the unchanged ones, which it keeps."""

    def __init__(self) -> None:
        self._usual: dict[str, set[tuple]] = {}

    def check(self, edit: Edit) -> tuple[bool, str]:
        """Return whether the emulator notices a change, and what it reports."""
        probe = next((probe for start, probe in PROBES.items() if edit.file.startswith(start)), None)
        if probe is None:
            raise LookupError(f"no cases are known to reach kernels/{edit.file}: add them to PROBES")
        for strict in (False, True):
            for number in range(len(probe())):
                with changed_kernels(edit):
                    case = _variant(probe()[number], strict)
                    findings = _findings_of(case)
                usual = self._usual_findings(probe, number, strict)
                kinds = {
                    f"{finding.severity.value}: {finding.kind}" for finding in findings if _key(finding) not in usual
                }
                if kinds:
                    return True, f"{case.name} reports {', '.join(sorted(kinds))}"
        return False, "reported: nothing; what was removed is not needed as compiled, or no case reaches it"

    def _usual_findings(self, probe: Callable[[], list[Case]], number: int, strict: bool) -> set[tuple]:
        name = _variant(probe()[number], strict).name
        if name not in self._usual:
            with changed_kernels(None):
                self._usual[name] = {_key(finding) for finding in _findings_of(_variant(probe()[number], strict))}
        return self._usual[name]


def _variant(case: Case, strict: bool) -> Case:
    if not strict:
        return case
    return replace(case, name=f"{case.name} strict", options=replace(case.options, strict=True))


def _findings_of(case: Case) -> list[Finding]:
    """Return what is found, but for what is benign; a kernel that fails thereafter may do so."""
    findings = Findings()
    try:
        case.emulate(findings)
    except (NotImplementedError, RuntimeError):
        if not len(findings):
            raise
    return [finding for finding in findings if finding.severity != Severity.BENIGN]


def _key(finding: Finding) -> tuple:
    return finding.kind, finding.kernel, finding.here, finding.there
