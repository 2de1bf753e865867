"""Translate the PTX of a kernel to a Python generator that yields at every barrier of its CTA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator

import numpy as np

from ptx import arithmetic
from ptx.control_flow import ControlFlow, Fork
from ptx.expressions import expression, unpack
from ptx.memory import ATOMIC_OPERATIONS, Access
from ptx.operands import SIGNED, SIZES, TYPES, UNSIGNED, Operands, require
from ptx.parser import Instruction, Listing

_MEMORY_MODIFIERS = {"global", "shared", "shared:cta", "v2", "v4", "weak", "relaxed", "acq_rel", "cta", "gpu", "sys"}
_NAMES = {
    "np": np,
    **{np.dtype(dtype).name: dtype for dtype in (*SIGNED.values(), *UNSIGNED.values(), *TYPES.values())},
    **{name: function for name, function in vars(arithmetic).items() if callable(function)},
    "Fork": Fork,
}
"""What the generated code may use."""

_LOOP = """\
  if False: yield
  block, fork, forks = 0, None, []
  while True:
    if fork is not None:
      forks.append(fork)
      block = fork.enter(group, (REGISTERS))
      fork = None
    while forks and block == forks[-1].join:
      if forks[-1].result is None:
        block, (REGISTERS) = forks[-1].switch(group, (REGISTERS))
      else:
        (REGISTERS) = forks.pop().join_threads(group, (REGISTERS))
""".splitlines()
"""The start of the generated function's loop, of which each iteration runs a basic block."""


class Program:
    """A kernel that can be executed.

    Attributes:
        name: Module and function, for reports.
        listing: The instructions.
        block_starts, block_ends: Instruction ranges of the basic blocks.
        generator: The translated kernel. Called for a group of threads, it yields the index of each barrier
            instruction that the group reaches.
    """

    def __init__(self, ptx: str, name: str = "", shared_bytes: int = 0, num_warps: int = 0) -> None:
        self.listing = Listing(ptx)
        self.name = name or self.listing.entry
        self.shared_bytes = shared_bytes
        self.num_warps = num_warps or -(-self.listing.num_threads // 32)
        self._operands = Operands()
        self._flow = ControlFlow(self.listing)
        self._joins = self._flow.joins()
        self.block_starts, self.block_ends = self._flow.starts, self._flow.ends
        self.generator = self._translate()

    @property
    def instructions(self) -> list[Instruction]:
        return self.listing.instructions

    def mix(self, block_counts: list[int]) -> Counter[str]:
        """Return how often each kind of instruction runs, given how often each block does."""
        mix: Counter[str] = Counter()
        for count, start, end in zip(block_counts, self.block_starts, self.block_ends, strict=True):
            for i in self.instructions[start:end]:
                specific = i.name in ("ld", "st", "shfl", "redux")
                mix[f"{i.name}.{i.opcode.split('.')[1]}" if specific else i.name] += count
        return mix

    def _translate(self) -> Callable[..., Generator[int, None, None]]:
        blocks = [self._block(number) for number in range(len(self.block_starts))]
        registers = sorted(self._operands.registers)
        lines = ["def kernel(group, threads, width, parameters, cta, grid, num_threads, counts, limit, initial):"]
        for register in registers:
            lines.append(f"  {register} = initial['{np.dtype(self._operands.dtype_of(register)).name}']")
        for name, (mode, lane, clamp) in self._operands.shuffles.items():
            lines.append(f"  {name} = shuffle_sources('{mode}', {lane}, {clamp}, width)")
        lines += [line.replace("REGISTERS", "".join(f"{name}, " for name in registers)) for line in _LOOP]
        lines += _binary_search(blocks, 0, len(blocks), 2)
        names = {**_NAMES, **self._operands.constants}
        exec(compile("\n".join(lines), f"<{self.listing.entry}>", "exec"), names)
        return names["kernel"]

    def _block(self, number: int) -> list[str]:
        start = self.block_starts[number]
        lines = [f"counts[{number}] += 1", f"if counts[{number}] > limit: group.stop({start})"]
        for i in self.instructions[start : self.block_ends[number]]:
            lines += self._statements(i, number)
        if i.name != "bra" and (i.name != "ret" or i.guard):
            lines.append(f"block = {number + 1}")
        return lines

    def _guard(self, i: Instruction) -> str | None:
        if not i.guard:
            return None
        register = self._operands.register(i.guard.lstrip("!"))
        return f"(~{register})" if i.guard.startswith("!") else register

    def _statements(self, i: Instruction, block: int) -> list[str]:
        """Return the Python statements of an instruction."""
        guard = self._guard(i)
        if i.name in ("bra", "ret"):
            return self._jump(i, guard, block)
        if i.name in ("bar", "barrier"):
            return self._barrier(i)
        if i.name in ("ldmatrix", "stmatrix"):
            return self._matrices(i, guard)
        if i.name == "ld" and i.modifiers[0] == "param":
            return self._load_parameter(i)
        if i.name == "ld":
            return self._load(i, guard)
        if i.name == "st":
            return self._store(i, guard)
        if i.is_atomic:
            return self._atomic(i, guard)
        if i.name == "mov" and i.operands[0].startswith("{"):
            return unpack(i, self._operands)
        require("|" not in i.operands[0], i)
        target = self._operands.register(i.operands[0])
        code = expression(i, self._operands)
        return [f"{target} = np.where({guard}, {code}, {target})" if guard else f"{target} = {code}"]

    def _jump(self, i: Instruction, guard: str | None, block: int) -> list[str]:
        if i.name == "ret":
            return [f"if group.uniform({guard}, {i.index}): return" if guard else "return"]
        target = self._flow.target(i.operands[0])
        if not guard:
            return [f"block = {target}"]
        if block not in self._joins:
            return [f"block = {target} if group.uniform({guard}, {i.index}) else {block + 1}"]
        return [
            f"if group.agree({guard}): block = {target} if group.first({guard}) else {block + 1}",
            f"else: fork = Fork({target}, {block + 1}, {self._joins[block]}, {guard})",
        ]

    def _barrier(self, i: Instruction) -> list[str]:
        scope = i.modifiers[0]
        one_warp = scope == "warp" and self.listing.num_threads == arithmetic.WARP_SIZE
        require(one_warp or scope == "cta" or (scope == "sync" and i.operands[0] == "0"), i)
        require(one_warp or not i.guard, i)
        return [f"yield {i.index}"]

    def _access(self, i: Instruction, num_values: int = 1, operation: str = "", returns_old: bool = False) -> str:
        """Return the name of the constant that describes a memory access."""
        is_shared = any(modifier.startswith("shared") for modifier in i.modifiers)
        allowed = _MEMORY_MODIFIERS | {i.type} | (ATOMIC_OPERATIONS if i.is_atomic else set())
        require((is_shared or "global" in i.modifiers) and set(i.modifiers) <= allowed, i)
        size = SIZES[i.type]
        dtype = TYPES[i.type] if i.is_atomic or size == 1 else SIGNED[size]
        is_acq_rel = i.is_atomic and "acq_rel" in i.modifiers
        return self._operands.constant(
            Access(i.index, is_shared, dtype, num_values, operation, returns_old, is_acq_rel)
        )

    def _address(self, i: Instruction) -> str:
        text = next(operand for operand in i.operands if operand.startswith("["))
        return self._operands.address(text, any(modifier.startswith("shared") for modifier in i.modifiers))

    def _load(self, i: Instruction, guard: str | None) -> list[str]:
        targets = ", ".join(self._operands.registers_of(i.operands[0]))
        access = self._access(i, len(targets.split(",")))
        return [f"{targets}, = group.load({access}, {self._address(i)}, {guard}, [{targets}])"]

    def _store(self, i: Instruction, guard: str | None) -> list[str]:
        type_name = f"b{8 * SIZES[i.type]}"
        texts = [text.strip() for text in i.operands[1].strip("{}").split(",")]
        values = [self._operands.register(text) or self._operands.array(text, type_name) for text in texts]
        access = self._access(i, len(values))
        return [f"group.store({access}, {self._address(i)}, {guard}, [{', '.join(values)}])"]

    def _atomic(self, i: Instruction, guard: str | None) -> list[str]:
        operation = next(modifier for modifier in i.modifiers if modifier in ATOMIC_OPERATIONS)
        values = [operand for operand in i.operands if not operand.startswith("[")]
        target, old, returns_old = "_", "None", False
        if i.name == "atom":
            text = values.pop(0)
            target = old = self._operands.register(text)
            # Triton names an unused result twice: in the instruction that sets it to zero, and here.
            returns_old = self.listing.register_uses[text] > 2 or operation in ("cas", "exch")
        access = self._access(i, operation=operation, returns_old=returns_old)
        arrays = ", ".join(self._operands.array(text, i.type) for text in values)
        return [f"{target} = group.atomic({access}, {self._address(i)}, {guard}, {old}, {arrays})"]

    def _load_parameter(self, i: Instruction) -> list[str]:
        require(not i.guard, i)
        number = self.listing.parameters.index(i.operands[1].strip("[]"))
        dtype = np.dtype(SIGNED[SIZES[i.type]]).name
        return [f"{self._operands.register(i.operands[0])} = np.full(width, parameters[{number}], {dtype})"]

    def _matrices(self, i: Instruction, guard: str | None) -> list[str]:
        """ldmatrix, stmatrix: each thread has two elements of each matrix."""
        transposed = "trans" in i.modifiers
        required = ["sync", "aligned", "m8n8", i.modifiers[3], *(["trans"] if transposed else []), "shared", "b16"]
        require(not guard and i.modifiers == required, i)
        is_load = i.name == "ldmatrix"
        memory, registers = reversed(i.operands) if is_load else i.operands
        address = self._operands.address(memory, is_shared=True)
        access = self._operands.constant(Access(i.index, True, np.int16))
        lines = []
        for number, name in enumerate(self._operands.registers_of(registers)):
            if is_load:
                lines.append(f"{name} = group.load_matrix({access}, {address}, {number}, {transposed})")
            else:
                lines.append(f"group.store_matrix({access}, {address}, {number}, {name}, {transposed})")
        return lines


def _binary_search(blocks: list[list[str]], low: int, high: int, depth: int) -> list[str]:
    """Return the statements that run the current one of the blocks [low, high)."""
    indent = "  " * depth
    if high - low == 1:
        return [indent + line for line in blocks[low]]
    middle = (low + high) // 2
    return [
        f"{indent}if block < {middle}:",
        *_binary_search(blocks, low, middle, depth + 1),
        f"{indent}else:",
        *_binary_search(blocks, middle, high, depth + 1),
    ]
