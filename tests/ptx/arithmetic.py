"""PTX arithmetic on NumPy arrays, one element a thread, with the rounding that PTX specifies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
WARP_SIZE = 32


def fmin(a: Array, b: Array) -> Array:
    """Return the minimum of each pair: a number wins over NaN, -0.0 over 0.0."""
    result = np.fmin(a, b)
    zeros = (a == 0) & (b == 0)
    if zeros.any():
        result = np.where(zeros & (np.signbit(a) | np.signbit(b)), result.dtype.type(-0.0), result)
    return result


def fmax(a: Array, b: Array) -> Array:
    """Return the maximum of each pair: a number wins over NaN, 0.0 over -0.0."""
    result = np.fmax(a, b)
    zeros = (a == 0) & (b == 0)
    if zeros.any():
        result = np.where(zeros & ~(np.signbit(a) & np.signbit(b)), result.dtype.type(0.0), result)
    return result


def quotient(a: Array, b: Array) -> Array:
    """Return the integer quotient rounded towards zero; all bits are set where the divisor is zero."""
    zero = b == 0
    if np.any(zero):
        b = np.where(zero, b.dtype.type(1), b)
    result = a // b
    if np.issubdtype(a.dtype, np.signedinteger):
        result = result + ((result * b != a) & ((a < 0) != (b < 0))).astype(result.dtype)
    return np.where(zero, ~result.dtype.type(0), result)


def remainder(a: Array, b: Array) -> Array:
    """Return what the integer division towards zero leaves."""
    return a - quotient(a, b) * b


def _clamped(amount: Array, bits: int, dtype: np.dtype) -> tuple[Array, Array]:
    """Return where a shift exceeds the width, and the shift amounts with 0 in those places."""
    amount = np.asarray(amount).astype(np.int64)
    over = amount >= bits
    return over, np.where(over, 0, amount).astype(dtype)


def shift_left(a: Array, amount: Array, bits: int) -> Array:
    """Shift left by uint32 amounts; an amount of at least `bits` gives 0."""
    over, amount = _clamped(amount, bits, a.dtype)
    return np.where(over, a.dtype.type(0), a << amount)


def shift_right(a: Array, amount: Array, bits: int) -> Array:
    """Shift right by uint32 amounts; an amount of at least `bits` gives the sign of a signed number, else 0."""
    over, amount = _clamped(amount, bits, a.dtype)
    signed = np.issubdtype(a.dtype, np.signedinteger)
    fill = np.where(a < 0, a.dtype.type(-1), a.dtype.type(0)) if signed else a.dtype.type(0)
    return np.where(over, fill, a >> amount)


def to_integer(a: Array, dtype: type) -> Array:
    """Convert floats to integers towards zero, saturating; NaN gives 0."""
    info = np.iinfo(dtype)
    wide = np.trunc(a.astype(np.float64))
    low, high = wide <= info.min, wide >= float(info.max)
    safe = np.where(low | high | np.isnan(wide), 0.0, wide).astype(dtype)
    saturated = np.where(low, dtype(info.min), np.where(high, dtype(info.max), safe))
    return np.where(np.isnan(wide), dtype(0), saturated)


def exact_float32(a: Array) -> Array:
    """Convert integers that float32 represents exactly."""
    if (np.abs(a.astype(np.int64)) >= 1 << 24).any():
        raise NotImplementedError("cvt to bf16 from an integer that float32 cannot represent")
    return a.astype(np.float32)


def to_bfloat16(a: Array) -> Array:
    """Return the bits, uint16, of float32 numbers rounded to the nearest bfloat16, ties to even."""
    bits = a.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(a), np.uint16(0x7FFF), rounded.astype(np.uint16))


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b rounded, and its error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _split(a: Array) -> tuple[Array, Array]:
    """Split float64 numbers into halves whose products are exact (Dekker, 1971)."""
    scaled = a * 134217729.0
    high = scaled - (scaled - a)
    return high, a - high


def _round_to_odd(value: Array, error: Array) -> Array:
    """Round float64 numbers with a known error to the neighbor whose last bit is set."""
    even = (np.ascontiguousarray(value).view(np.int64) & 1) == 0
    neighbor = np.nextafter(value, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, neighbor, value)


def fma64(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c of float64 numbers rounded once, except near overflow and underflow (Boldo, 2008)."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    product_error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    total, total_error = _two_sum(product, c)
    rest, rest_error = _two_sum(product_error, total_error)
    result = total + _round_to_odd(rest, rest_error)
    special = ~np.isfinite(result) | ~np.isfinite(product_error) | (product == 0) | (total == 0)
    return np.where(special, product + c, result)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c of float32 numbers rounded once."""
    total, error = _two_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
    return np.where(np.isfinite(total), _round_to_odd(total, error), total).astype(np.float32)


def permute_bytes(a: Array, b: Array, selector: int) -> Array:
    """Pick four bytes of the pair (b above a), one a hexadecimal digit; a digit's top bit replicates the sign."""
    pair = np.stack(np.broadcast_arrays(a, b), axis=1).view(np.uint8).reshape(-1, 8)
    result = np.empty((len(pair), 4), np.uint8)
    for k in range(4):
        digit = (selector >> (4 * k)) & 15
        byte = pair[:, digit & 7]
        result[:, k] = np.where(byte & 0x80, 0xFF, 0) if digit & 8 else byte
    return result.view(np.int32).reshape(-1)


def count_bits(a: Array) -> Array:
    """Return the number of bits that are set."""
    return np.unpackbits(np.ascontiguousarray(a).view(np.uint8).reshape(-1, 4), axis=1).sum(1, dtype=np.int32)


_REDUCTIONS = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def warp_reduce(a: Array, operation: str) -> Array:
    """Give every thread of a warp the reduction of the warp's values."""
    rows = a.reshape(-1, WARP_SIZE)
    return np.repeat(_REDUCTIONS[operation].reduce(rows, axis=1, dtype=a.dtype), WARP_SIZE)


def shuffle_sources(mode: str, b: Array | int, c: Array | int, num_threads: int) -> Array:
    """Return the thread that each thread reads from in `shfl.sync.MODE`."""
    threads = np.arange(num_threads)
    lane, warp_start = threads & 31, threads & ~31
    segment, clamp = (c >> 8) & 31, c & 31
    bound = (lane & segment) | (clamp & ~segment)
    if mode == "up":
        source = lane - b
        inside = source >= bound
    else:
        idx = (lane & segment) | (b & ~segment)
        source = {"down": lane + b, "bfly": lane ^ b, "idx": idx}[mode]
        inside = source <= bound
    return warp_start + np.where(inside, source, lane)
