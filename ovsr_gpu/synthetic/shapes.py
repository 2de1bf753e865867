"""Shapes of the objects: each function maps coordinates u (right) and v (down), `[H, W]` in [-1, 1], to a bool mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ovsr_gpu.synthetic.random_stream import Field

Mask = NDArray[np.bool_]


def circle(u: Field, v: Field) -> Mask:
    return u * u + v * v < 0.9


def square(u: Field, v: Field) -> Mask:
    return (abs(u) < 0.82) & (abs(v) < 0.82)


def triangle(u: Field, v: Field) -> Mask:
    return (v < 0.75) & (abs(u) < 0.54 * (v + 0.95))


def star(u: Field, v: Field) -> Mask:
    return polygon(u, v, [*_STAR_RIGHT_HALF, *((-x, y) for x, y in reversed(_STAR_RIGHT_HALF))])


def heart(u: Field, v: Field) -> Mask:
    x, y = 1.25 * u, 0.15 - 1.25 * v
    circle_term = x * x + y * y - 1
    return circle_term * circle_term * circle_term < x * x * y * y * y


def cross(u: Field, v: Field) -> Mask:
    return ((abs(u) < 0.34) & (abs(v) < 0.95)) | ((abs(v) < 0.34) & (abs(u) < 0.95))


def ring(u: Field, v: Field) -> Mask:
    squared_radius = u * u + v * v
    return (squared_radius > 0.2) & (squared_radius < 0.95)


def crescent(u: Field, v: Field) -> Mask:
    shifted = u - 0.5
    return (u * u + v * v < 0.95) & (shifted * shifted + v * v > 0.5)


def arrow(u: Field, v: Field) -> Mask:
    return polygon(
        u, v, [(-0.95, -0.32), (0.05, -0.32), (0.05, -0.85), (0.98, 0.0), (0.05, 0.85), (0.05, 0.32), (-0.95, 0.32)]
    )


def house(u: Field, v: Field) -> Mask:
    walls = (abs(u) < 0.62) & (v > -0.2) & (v < 0.9)
    roof = (v > -0.95) & (v <= -0.2) & (abs(u) < 1.26 * (v + 0.95))
    return walls | roof


def fish(u: Field, v: Field) -> Mask:
    along, across = (u - 0.25) / 0.73, v / 0.52
    tail = (u < -0.25) & (u > -0.95) & (abs(v) < 0.72 * (-0.1 - u))
    return (along * along + across * across < 1) | tail


def mushroom(u: Field, v: Field) -> Mask:
    across, up = u / 0.95, (v - 0.1) / 0.95
    cap = (across * across + up * up < 1) & (v < 0.1)
    stem = (abs(u) < 0.3 + 0.08 * v) & (v >= 0.1) & (v < 0.9)
    return cap | stem


def polygon(u: Field, v: Field, corners: Sequence[tuple[float, float]]) -> Mask:
    """Return the mask of a polygon by the even-odd rule; `corners` are pairs (u, v)."""
    inside = np.zeros(u.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            inside ^= ((v < y0) != (v < y1)) & (u < x0 + (v - y0) * ((x1 - x0) / (y1 - y0)))
    return inside


_STAR_RIGHT_HALF = [(0.0, -1.0), (0.26, -0.31), (0.98, -0.26), (0.42, 0.19), (0.61, 0.86), (0.0, 0.5)]

SHAPES: dict[str, Callable[[Field, Field], Mask]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "cross": cross,
    "ring": ring,
    "crescent": crescent,
    "arrow": arrow,
    "house": house,
    "fish": fish,
    "mushroom": mushroom,
}
