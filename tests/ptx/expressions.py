"""Write PTX instructions that compute a value as Python expressions on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

from ptx.operands import SIGNED, SIZES, TYPES, Operands, bits_type, dtype_name, require, stored, unsupported
from ptx.parser import Instruction

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
_COMPARISONS = {
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"lo": "<", "ls": "<=", "hi": ">", "hs": ">="},
}
_WIDER = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


def expression(instruction: Instruction, operands: Operands) -> str:
    """Return the value that an instruction writes to its first operand.

    Raises:
        NotImplementedError: The emulator does not know the instruction.
    """
    emit = _EMITTERS.get(instruction.name)
    if emit is None:
        raise unsupported(instruction)
    return emit(instruction, operands)


def _values(instruction: Instruction, operands: Operands) -> list[str]:
    """Return the source operands as expressions of the instruction's type."""
    return [operands.value(text, instruction.type) for text in instruction.operands[1:]]


def _is_float(type_name: str) -> bool:
    return type_name[0] == "f"


def _arithmetic(i: Instruction, operands: Operands) -> str:
    """add, sub, mul."""
    if i.type == "f32x2":
        return _packed(i, operands)
    if i.modifiers[0] == "wide":
        return _multiply_wide(i, operands)
    if i.modifiers[0] == "hi":
        return _multiply_high(i, operands)
    require(not _is_float(i.type) or i.modifiers[0] in ("rn", i.type), i)
    a, b = _values(i, operands)
    return stored(f"{a} {_SIGNS[i.name]} {b}", i.type)


def _packed(i: Instruction, operands: Operands) -> str:
    """Two float32 operations at once, the lower one in the lower half."""
    require(i.modifiers[0] == "rn" and all(operands.register(text) for text in i.operands[1:]), i)
    values = [f"{operands.register(text)}.view(float32)" for text in i.operands[1:]]
    if i.name == "fma":
        return f"fma32({', '.join(values)}).view(int64)"
    return f"({f' {_SIGNS[i.name]} '.join(values)}).view(int64)"


def _multiply_wide(i: Instruction, operands: Operands) -> str:
    wide = _WIDER[i.type]
    a, b = (f"{value}.astype({dtype_name(TYPES[wide])})" for value in _values(i, operands))
    return stored(f"{a} * {b}", wide)


def _multiply_high(i: Instruction, operands: Operands) -> str:
    require(i.type in ("s32", "u32"), i)
    wide = dtype_name(TYPES[_WIDER[i.type]])
    a, b = (f"{value}.astype({wide})" for value in _values(i, operands))
    return stored(f"(({a} * {b}) >> {wide}(32)).astype({dtype_name(TYPES[i.type])})", i.type)


def _multiply_add(i: Instruction, operands: Operands) -> str:
    """mad."""
    if i.modifiers[0] == "lo":
        a, b, c = _values(i, operands)
        return stored(f"{a} * {b} + {c}", i.type)
    require(i.modifiers[0] == "wide" and i.type in ("s32", "u32"), i)
    wide = _WIDER[i.type]
    a, b = (f"{operands.value(text, i.type)}.astype({dtype_name(TYPES[wide])})" for text in i.operands[1:3])
    return stored(f"{a} * {b} + {operands.value(i.operands[3], wide)}", wide)


def _fused_multiply_add(i: Instruction, operands: Operands) -> str:
    """fma."""
    require(i.modifiers[0] == "rn", i)
    if i.type == "f32x2":
        return _packed(i, operands)
    require(i.type in ("f32", "f64"), i)
    return stored(f"{'fma32' if i.type == 'f32' else 'fma64'}({', '.join(_values(i, operands))})", i.type)


def _extremum(i: Instruction, operands: Operands) -> str:
    """min, max; since sm_100 also of three numbers."""
    require(len(i.modifiers) == 1, i)
    function = f"f{i.name}" if _is_float(i.type) else f"np.{i.name}imum"
    code, *others = _values(i, operands)
    for other in others:
        code = f"{function}({code}, {other})"
    return stored(code, i.type)


def _bitwise(i: Instruction, operands: Operands) -> str:
    """and, or, xor."""
    a, b = _values(i, operands)
    return f"{a} {_SIGNS[i.name]} {b}"


def _unary(i: Instruction, operands: Operands) -> str:
    """not, neg, abs, sqrt."""
    require(i.name != "sqrt" or i.modifiers[0] == "rn", i)
    function = {"not": "~{}", "neg": "-{}", "abs": "np.abs({})", "sqrt": "np.sqrt({})"}[i.name]
    return stored(function.format(*_values(i, operands)), i.type)


def _shift(i: Instruction, operands: Operands) -> str:
    """shl, shr; shr.b32 shifts in zeros."""
    bits = 8 * SIZES[i.type]
    type_name = f"u{bits}" if i.name == "shr" and i.type[0] == "b" else i.type
    value, amount = operands.value(i.operands[1], type_name), i.operands[2]
    if not amount.startswith("%") and int(amount, 0) < bits:
        constant = operands.constant(TYPES[type_name](int(amount, 0)))
        return stored(f"{value} {'<<' if i.name == 'shl' else '>>'} {constant}", type_name)
    function = "shift_left" if i.name == "shl" else "shift_right"
    return stored(f"{function}({value}, {operands.value(amount, 'u32')}, {bits})", type_name)


def _divide(i: Instruction, operands: Operands) -> str:
    """div, rem."""
    a, b = _values(i, operands)
    if _is_float(i.type):
        require(i.name == "div" and i.modifiers[0] == "rn", i)
        return stored(f"{a} / {b}", i.type)
    return stored(f"{'quotient' if i.name == 'div' else 'remainder'}({a}, {b})", i.type)


def _compare(i: Instruction, operands: Operands) -> str:
    """setp, with `.and`, `.or` or `.xor` of a predicate."""
    comparison = i.modifiers[0]
    x, y = (operands.value(text, i.type) for text in i.operands[1:3])
    ordered = comparison.removesuffix("u") if comparison[:-1] in _COMPARISONS else comparison
    if comparison in ("num", "nan"):
        code = f"(({x} == {x}) & ({y} == {y}))" if comparison == "num" else f"(({x} != {x}) | ({y} != {y}))"
    elif ordered not in _COMPARISONS:
        raise unsupported(i)
    elif not _is_float(i.type) or (comparison == ordered != "ne") or comparison == "neu":
        code = f"({x} {_COMPARISONS[ordered]} {y})"
    elif comparison == "ne":
        code = f"(({x} < {y}) | ({x} > {y}))"
    else:  # or unordered
        code = f"(({x} {_COMPARISONS[ordered]} {y}) | ({x} != {x}) | ({y} != {y}))"
    if len(i.modifiers) == 3:
        code = f"({code} {_SIGNS[i.modifiers[1]]} {operands.value(i.operands[3], 'pred')})"
    if any(text.startswith("%") for text in i.operands[1:3]):
        return code
    return f"np.broadcast_to({code}, width)"


def _select(i: Instruction, operands: Operands) -> str:
    """selp."""
    require(i.type != "pred", i)
    a, b = (operands.value(text, bits_type(i.type)) for text in i.operands[1:3])
    return f"np.where({operands.value(i.operands[3], 'pred')}, {a}, {b})"


def _convert_pair(i: Instruction, operands: Operands) -> str:
    """cvt of two float32 numbers to halves of a register, the second one to the lower half."""
    require(i.modifiers[0] == "rn" and i.modifiers[-1] == "f32", i)
    function = "to_bfloat16({}).view(float16)" if i.modifiers[1] == "bf16x2" else "{}.astype(float16)"
    high, low = (function.format(operands.array(text, "f32")) for text in i.operands[1:])
    return f"np.stack([{low}, {high}], axis=1).view(int32).reshape(width)"


def _convert(i: Instruction, operands: Operands) -> str:
    """cvt."""
    if i.modifiers[-2] in ("f16x2", "bf16x2"):
        return _convert_pair(i, operands)
    target, source = i.modifiers[-2:]
    rounding = i.modifiers[0] if len(i.modifiers) > 2 else ""
    require(source != "bf16", i)
    if SIZES[source] == 1:
        value = f"{operands.register(i.operands[1])}.astype({dtype_name(TYPES[source])})"
    else:
        value = operands.value(i.operands[1], source)
    if target == "bf16":
        require(source in ("u32", "s32", "f32") and rounding == "rn", i)
        return f"to_bfloat16({value if source == 'f32' else f'exact_float32({value})'}).view(int16)"
    dtype = dtype_name(TYPES[target])
    if _is_float(source) and not _is_float(target):
        require(rounding == "rzi", i)
        return stored(f"to_integer({value}, {dtype})", target)
    if _is_float(target):
        require(rounding == "rn" or (rounding == "" and _is_float(source)), i)
        through = ".astype(float64)" if target == "f16" and not _is_float(source) else ""
        return stored(f"{value}{through}.astype({dtype})", target)
    require(rounding == "", i)
    return stored(f"{value}.astype({dtype})", target)


def _move(i: Instruction, operands: Operands) -> str:
    """mov, cvta."""
    if i.type == "pred":
        return operands.value(i.operands[1], "pred")
    if i.operands[1].startswith("{"):
        return _pack(i, operands)
    return operands.array(i.operands[1], bits_type(i.type))


def _pack(i: Instruction, operands: Operands) -> str:
    """mov of several registers to a wider one."""
    parts = [part.strip() for part in i.operands[1].strip("{}").split(",")]
    part_type = f"b{8 * SIZES[i.type] // len(parts)}"
    arrays = ", ".join(f"np.broadcast_to({operands.value(part, part_type)}, width)" for part in parts)
    return f"np.stack([{arrays}], axis=1).view({dtype_name(SIGNED[SIZES[i.type]])}).reshape(width)"


def unpack(i: Instruction, operands: Operands) -> list[str]:
    """Return the assignments of a mov to several narrower registers."""
    names = operands.registers_of(i.operands[0])
    dtype = dtype_name(SIGNED[SIZES[i.type] // len(names)])
    halves = f"{operands.value(i.operands[1], i.type)}.view({dtype}).reshape(width, {len(names)})"
    return [f"{name} = np.ascontiguousarray({halves}[:, {k}])" for k, name in enumerate(names) if name]


def _extract_bits(i: Instruction, operands: Operands) -> str:
    """bfe; the signed form extends the highest of the bits."""
    require(i.type in ("s32", "u32") and not any(text.startswith("%") for text in i.operands[2:]), i)
    position, length = int(i.operands[2]), int(i.operands[3])
    require(length > 0 and position + length <= 32, i)
    dtype = dtype_name(TYPES[i.type])
    value = operands.value(i.operands[1], i.type)
    return stored(f"(({value} << {dtype}({32 - position - length})) >> {dtype}({32 - length}))", i.type)


def _permute(i: Instruction, operands: Operands) -> str:
    """prmt."""
    require(len(i.modifiers) == 1 and not i.operands[3].startswith("%"), i)
    a, b = (operands.value(text, i.type) for text in i.operands[1:3])
    return f"permute_bytes({a}, {b}, {int(i.operands[3].rstrip('U'), 0)})"


def _count_bits(i: Instruction, operands: Operands) -> str:
    """popc."""
    return f"count_bits({operands.value(i.operands[1], 'b32')})"


def _shuffle(i: Instruction, operands: Operands) -> str:
    """shfl.sync of whole warps."""
    sync, mode = i.modifiers[:2]
    require(sync == "sync" and i.type == "b32" and i.operands[4] in ("-1", "0xffffffff"), i)
    value, lane, clamp = operands.value(i.operands[1], "b32"), *i.operands[2:4]
    if lane.startswith("%") or clamp.startswith("%"):
        lanes = f"{operands.value(lane, 'b32')}, {operands.value(clamp, 'b32')}"
        return f"{value}.take(shuffle_sources('{mode}', {lanes}, width))"
    name = f"shuffle_{mode}_{int(lane)}_{int(clamp)}"
    operands.shuffles[name] = (mode, int(lane), int(clamp))
    return f"{value}.take({name})"


def _reduce(i: Instruction, operands: Operands) -> str:
    """redux.sync."""
    return stored(f"warp_reduce({operands.value(i.operands[1], i.type)}, '{i.modifiers[1]}')", i.type)


_EMITTERS: dict[str, Callable[[Instruction, Operands], str]] = {
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    **dict.fromkeys(("and", "or", "xor"), _bitwise),
    **dict.fromkeys(("not", "neg", "abs", "sqrt"), _unary),
    **dict.fromkeys(("min", "max"), _extremum),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("div", "rem"), _divide),
    **dict.fromkeys(("mov", "cvta"), _move),
    "mad": _multiply_add,
    "fma": _fused_multiply_add,
    "setp": _compare,
    "selp": _select,
    "cvt": _convert,
    "bfe": _extract_bits,
    "prmt": _permute,
    "popc": _count_bits,
    "shfl": _shuffle,
    "redux": _reduce,
}
