"""Write PTX operands as Python expressions on NumPy arrays."""

from __future__ import annotations

import re

import numpy as np

from ptx.parser import Instruction

TYPES: dict[str, type] = {
    **{f"s{8 * size}": getattr(np, f"int{8 * size}") for size in (1, 2, 4, 8)},
    **{f"u{8 * size}": getattr(np, f"uint{8 * size}") for size in (1, 2, 4, 8)},
    **{f"b{8 * size}": getattr(np, f"int{8 * size}") for size in (2, 4, 8)},
    "b8": np.uint8,
    **{f"f{8 * size}": getattr(np, f"float{8 * size}") for size in (2, 4, 8)},
}
SIZES = {name: np.dtype(dtype).itemsize for name, dtype in TYPES.items()} | {"bf16": 2}
SIGNED: dict[int, type] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
"""How registers of each size are held, whatever the type of what they hold."""
UNSIGNED: dict[int, type] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

_REGISTER = re.compile(r"^%(p|rs|rd|r|fd|f|h)(\d+)$")
_REGISTER_TYPES = {
    "p": np.bool_,
    "rs": np.int16,
    "h": np.int16,
    "r": np.int32,
    "f": np.int32,
    "rd": np.int64,
    "fd": np.int64,
}
_SPECIAL_REGISTERS = {
    "%tid.x": "threads",
    "%laneid": "(threads & 31)",
    "%ntid.x": "np.full(width, num_threads, int32)",
    **{f"%ctaid.{axis}": f"np.full(width, cta[{k}], int32)" for k, axis in enumerate("xyz")},
    **{f"%nctaid.{axis}": f"np.full(width, grid[{k}], int32)" for k, axis in enumerate("xyz")},
}
_ADDRESS = re.compile(r"\[\s*([%\w.]+)\s*(?:\+\s*(-?\w+))?\s*\]")


def dtype_name(dtype: type) -> str:
    """Return the name of a NumPy type in the generated code."""
    return np.dtype(dtype).name


def bits_type(type_name: str) -> str:
    """Return the untyped counterpart of a PTX type: `b32` of `f32`."""
    return f"b{8 * SIZES[type_name]}"


def stored(code: str, type_name: str) -> str:
    """Return an expression of some type as its register holds it."""
    if type_name == "pred":
        return code
    dtype, size = TYPES[type_name], SIZES[type_name]
    if size == 1:
        return f"({code}).astype(int16)"
    return code if dtype == SIGNED[size] else f"({code}).view({dtype_name(SIGNED[size])})"


def unsupported(instruction: Instruction) -> NotImplementedError:
    """Return the error for an instruction that the emulator does not know."""
    return NotImplementedError(f"the emulator does not support `{instruction.text}`")


def require(condition: bool, instruction: Instruction) -> None:
    """Raise NotImplementedError unless the condition holds."""
    if not condition:
        raise unsupported(instruction)


class Operands:
    """The registers, constants and shuffle patterns that a kernel uses, by their names in the generated code."""

    def __init__(self) -> None:
        self.registers: set[str] = set()
        self.constants: dict[str, object] = {}
        self.shuffles: dict[str, tuple[str, int, int]] = {}

    def register(self, text: str) -> str | None:
        """Return the name of a register, None for any other operand."""
        match = _REGISTER.match(text)
        if match is None:
            return None
        name = "".join(match.groups())
        self.registers.add(name)
        return name

    def registers_of(self, text: str) -> list[str | None]:
        """Return the registers of a list in braces, or the one register; None for the sink `_`."""
        return [self.register(part.strip()) for part in text.strip("{}").split(",")]

    @staticmethod
    def dtype_of(register: str) -> type:
        """Return the NumPy type that holds a register."""
        return _REGISTER_TYPES[register.rstrip("0123456789")]

    def constant(self, value: object) -> str:
        """Return the name under which the generated code finds a value."""
        name = f"K{len(self.constants)}"
        self.constants[name] = value
        return name

    def value(self, text: str, type_name: str) -> str:
        """Return an operand as an expression of a PTX type."""
        if type_name == "pred":
            return self.register(text) or f"np.full(width, {bool(int(text))})"
        if text in _SPECIAL_REGISTERS:
            return _SPECIAL_REGISTERS[text]
        dtype = TYPES[type_name]
        register = self.register(text)
        if register is None:
            return self._immediate(text, dtype)
        held, size = self.dtype_of(register), SIZES[type_name]
        if np.dtype(held).itemsize < size:
            raise NotImplementedError(f"register {text} as {type_name}")
        if np.dtype(held).itemsize > size:
            return f"{register}.astype({dtype_name(SIGNED[size])}).view({dtype_name(dtype)})"
        return register if held == dtype else f"{register}.view({dtype_name(dtype)})"

    def array(self, text: str, type_name: str) -> str:
        """Return an operand as an expression with one element a thread, immediates included."""
        code = self.value(text, type_name)
        return code if text.startswith("%") else f"np.full(width, {code})"

    def _immediate(self, text: str, dtype: type) -> str:
        if text[:2] in ("0f", "0d"):
            bits = np.array([int(text[2:], 16)], np.uint32 if text[1] == "f" else np.uint64)
            return self.constant(dtype(bits.view(dtype)[0]))
        if text.startswith("global_smem"):
            return self.constant(np.int32(text[len("global_smem") :] or 0))
        if np.issubdtype(dtype, np.floating):
            raise NotImplementedError(f"the integer {text} as {dtype_name(dtype)}")
        size = np.dtype(dtype).itemsize
        bits = np.array([int(text, 0) & ((1 << (8 * size)) - 1)], UNSIGNED[size])
        return self.constant(bits.view(dtype)[0])

    def address(self, text: str, is_shared: bool) -> str:
        """Return `[register + offset]` as an expression of byte addresses."""
        base, offset = _ADDRESS.match(text).groups()
        offset = int(offset or 0)
        if base == "global_smem":
            return f"np.full(width, {offset}, int32)"
        register = self.register(base)
        if not offset:
            return str(register)
        return f"({register} + {'int32' if is_shared else 'int64'}({offset}))"
