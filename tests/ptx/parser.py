"""Parse the PTX of one kernel into instructions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from ptx.sources import source_line, states_benign_race

_INSTRUCTION = re.compile(r"^(?:@(!?%p\d+)\s+)?([\w.:]+)\s*(.*)$", re.S)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]]+")
_LOCATION = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:.*inlined_at\s+(\d+)\s+(\d+))?")
_PARAMETER = re.compile(r"\.param\s+\.(\w+)\s+(?:\.ptr\s+\.\w+\s+\.align\s+\d+\s+)?(\w+)")


@dataclass(frozen=True)
class Location:
    """A line of the kernel's source, and the line that its function is inlined at (0: not inlined)."""

    file: int = 0
    line: int = 0
    caller_file: int = 0
    caller_line: int = 0


@dataclass(frozen=True)
class Instruction:
    """One PTX instruction.

    index: its place among the kernel's instructions. ptx_line: its line in the PTX text. guard: the predicate after
    `@`, or "". opcode: with all modifiers, as `ld.global.v2.b32`.
    """

    index: int
    ptx_line: int
    location: Location
    guard: str
    opcode: str
    operands: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """The opcode without modifiers, as `ld`."""
        return self.opcode.partition(".")[0]

    @property
    def modifiers(self) -> list[str]:
        """What follows the name in the opcode, with `shared::cta` as one word."""
        return self.opcode.replace("::", ":").split(".")[1:]

    @property
    def type(self) -> str:
        """The last modifier, which is the operand type, as `b32`."""
        return self.opcode.rsplit(".", 1)[-1]

    @property
    def is_atomic(self) -> bool:
        return self.name in ("atom", "red")


class Listing:
    """The instructions of one kernel, with what is needed to name the source line of each."""

    def __init__(self, ptx: str) -> None:
        match = re.search(r"\.reqntid\s+(\d+)", ptx)
        if match is None:
            raise ValueError("the PTX states no number of threads (.reqntid)")
        self.num_threads = int(match.group(1))
        head, body = ptx.split(".reqntid", 1)
        self.entry = re.search(r"\.entry\s+(\w+)", head).group(1)
        self.files = {int(number): path for number, path in re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]+)"', ptx, re.M)}
        self.parameters = [name for _, name in _PARAMETER.findall(head)]
        self.register_uses = Counter(re.findall(r"%\w+", body))
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self._parse(body, first_line=head.count("\n") + 1)

    def _parse(self, body: str, first_line: int) -> None:
        location = Location()
        in_assembly = located = False
        depth = 0
        for number, raw in enumerate(body.split("\n"), first_line):
            text = raw.strip()
            if text.startswith("// begin inline asm"):
                in_assembly, located = True, False
            elif text.startswith("// end inline asm"):
                in_assembly = False
            text = text.split("//")[0].strip()
            if text.startswith(".loc"):
                # The first .loc of inline assembly is that of the source; the others count the lines of the assembly.
                if not (in_assembly and located):
                    location = Location(*(int(part or 0) for part in _LOCATION.match(text).groups()))
                    located = True
            elif text.startswith("$") and text.endswith(":"):
                self.labels[text[:-1]] = len(self.instructions)
            elif text in ("{", "}"):
                depth += 1 if text == "{" else -1
                if depth == 0:
                    break
            elif text and not text.startswith(".") and not text[0].isdigit():  # a digit: the operand of .reqntid
                self._add(text, number, location)

    def _add(self, text: str, ptx_line: int, location: Location) -> None:
        for statement in (part.strip() for part in text.split(";")):
            if statement and statement not in "{}":
                guard, opcode, rest = _INSTRUCTION.match(statement).groups()
                operands = tuple(operand.strip() for operand in _OPERAND.findall(rest) if operand.strip())
                index = len(self.instructions)
                self.instructions.append(
                    Instruction(index, ptx_line, location, guard or "", opcode, operands, statement)
                )

    def file_name(self, file: int) -> str:
        """Return the name of a source file by its number in the PTX."""
        return self.files.get(file, "?").rsplit("/", 1)[-1]

    def describe_source(self, index: int) -> str:
        """Return file, line and text of an instruction's source."""
        location = self.instructions[index].location
        text = f"{self.file_name(location.file)}:{location.line}"
        if location.caller_line:
            text += f" (from {self.file_name(location.caller_file)}:{location.caller_line})"
        return f"{text} `{self._source(location)[:90]}`"

    def describe_ptx(self, index: int) -> str:
        """Return line and text of an instruction in the PTX."""
        instruction = self.instructions[index]
        return f"PTX {instruction.ptx_line}: {instruction.text}"

    def is_debug_barrier(self, index: int) -> bool:
        """Return whether a barrier stands in the source, rather than in a reduction or scan of Triton's."""
        return "debug_barrier" in self._source(self.instructions[index].location)

    def states_benign_race(self, index: int) -> bool:
        """Return whether a comment in the source calls the race that the instruction takes part in benign."""
        location = self.instructions[index].location
        return states_benign_race(self.files.get(location.file, ""), location.line)

    def _source(self, location: Location) -> str:
        return source_line(self.files.get(location.file, ""), location.line)
