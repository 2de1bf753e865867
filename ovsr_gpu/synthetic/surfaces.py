"""Textures of backgrounds, `[H, W, 3]` float32 in 0..255, and colors and two-tone patterns of objects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ovsr_gpu.synthetic.random_stream import Field, RandomStream, soften

Color = tuple[float, float, float]

COLORS: dict[str, Color] = {
    "red": (208, 38, 34),
    "orange": (245, 132, 18),
    "yellow": (246, 218, 40),
    "green": (28, 160, 62),
    "blue": (36, 76, 214),
    "purple": (130, 48, 172),
    "black": (34, 34, 38),
    "white": (240, 240, 236),
}


def blend(start: Field | Color, end: Field | Color, fraction: Field) -> Field:
    """Interpolate between two colors.

    Args:
        start: The color at fraction 0, or `[H, W, 3]` colors.
        end: The color at fraction 1, or `[H, W, 3]` colors.
        fraction: `[H, W]` in [0, 1].

    Returns:
        `[H, W, 3]` float32.
    """
    first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
    return first + (last - first) * fraction[:, :, None]


def grass(random: RandomStream, height: int, width: int) -> Field:
    blades = random.smooth_noise(height, width, random.uniform(7, 13), 2)
    patches = random.smooth_noise(height, width, 50, 60)
    return blend(blend((46, 88, 34), (64, 112, 40), patches), (128, 164, 76), blades * blades)


def water(random: RandomStream, height: int, width: int) -> Field:
    waves = random.smooth_noise(height, width, random.uniform(4, 7), random.uniform(22, 40))
    ripples = random.smooth_noise(height, width, 3, 12)
    crest = waves * ripples
    return blend(blend((22, 84, 108), (50, 128, 146), waves), (188, 222, 224), crest * crest)


def sand(random: RandomStream, height: int, width: int) -> Field:
    dunes = random.smooth_noise(height, width, 30, 90)
    grain = random.uniform_array(height, width)
    return blend(blend((190, 160, 112), (222, 196, 146), dunes), (158, 128, 90), grain * grain * np.float32(0.5))


def brick(random: RandomStream, height: int, width: int) -> Field:
    course = np.float32(random.uniform(15, 24))
    length = course * np.float32(2.4)
    down = (np.arange(height, dtype=np.float32) / course)[:, None] + random.uniform_array(1)
    row = np.floor(down)
    is_odd_row = row - 2 * np.floor(row / 2)
    along = (np.arange(width, dtype=np.float32) / length)[None] + is_odd_row / 2
    column = np.floor(along)
    mortar = (down - row < 0.12) | (along - column < 0.06)
    tints = random.uniform_array(64)[((row * 7 + column * 13) % 64).astype(np.int64)]
    faces = blend((128, 62, 48), (172, 98, 76), tints)
    grain = random.smooth_noise(height, width, 3, 4)
    return (
        soften(np.where(mortar[:, :, None], np.array((176, 168, 158), np.float32), faces))
        * (np.float32(0.88) + grain / 5)[:, :, None]
    )


def wood(random: RandomStream, height: int, width: int) -> Field:
    board = np.float32(random.uniform(38, 60))
    down = (np.arange(height, dtype=np.float32) / board)[:, None] + random.uniform_array(1)
    row = np.floor(down)
    seam = np.broadcast_to(down - row < 0.05, (height, width))
    tints = np.broadcast_to(random.uniform_array(64)[row.astype(np.int64) % 64], (height, width))
    fibers = random.smooth_noise(height, width, 2.5, 60)
    planks = blend(blend((150, 104, 58), (178, 130, 80), tints), (104, 66, 34), fibers * fibers)
    return soften(np.where(seam[:, :, None], np.array((66, 42, 24), np.float32), planks))


def sky(random: RandomStream, height: int, width: int) -> Field:
    depth = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None] / np.float32(height), (height, width))
    large_puffs, small_puffs = random.smooth_noise(height, width, 32, 70), random.smooth_noise(height, width, 12, 26)
    puffs = large_puffs * np.float32(0.7) + small_puffs * np.float32(0.3)
    cover = np.minimum(np.maximum(puffs - np.float32(random.uniform(0.42, 0.62)), 0) * 4, 1)
    return blend(blend((118, 168, 222), (180, 208, 236), depth), (244, 246, 250), cover)


def stone(random: RandomStream, height: int, width: int) -> Field:
    lumps = random.smooth_noise(height, width, 16, 20)
    speckle = random.smooth_noise(height, width, 3, 3)
    cracks = np.maximum(1 - abs(random.smooth_noise(height, width, 30, 36) - np.float32(0.5)) * 24, 0)
    return blend(
        blend((112, 112, 116), (158, 156, 152), lumps), (74, 74, 78), np.maximum(cracks, speckle * speckle / 2)
    )


BACKGROUNDS: dict[str, Callable[[RandomStream, int, int], Field]] = {
    "grass": grass,
    "water": water,
    "sand": sand,
    "brick": brick,
    "wood": wood,
    "sky": sky,
    "stone": stone,
}


def plain(random: RandomStream, u: Field, v: Field) -> Field:
    return np.zeros_like(u)


def striped(random: RandomStream, u: Field, v: Field) -> Field:
    return _alternate(u * np.float32(random.uniform(2.5, 4)) + random.uniform_array(1))


def dotted(random: RandomStream, u: Field, v: Field) -> Field:
    density = np.float32(random.uniform(2, 3))
    across, down = u * density + random.uniform_array(1), v * density + random.uniform_array(1)
    across, down = across - np.floor(across) - np.float32(0.5), down - np.floor(down) - np.float32(0.5)
    return (across * across + down * down < 0.09).astype(np.float32)


def checked(random: RandomStream, u: Field, v: Field) -> Field:
    density = np.float32(random.uniform(2, 3))
    return abs(_alternate(u * density + random.uniform_array(1)) - _alternate(v * density + random.uniform_array(1)))


def _alternate(position: Field) -> Field:
    """Return floor(position) modulo 2."""
    integer = np.floor(position)
    return integer - 2 * np.floor(integer / 2)


PATTERNS: dict[str, Callable[[RandomStream, Field, Field], Field]] = {
    "plain": plain,
    "striped": striped,
    "dotted": dotted,
    "checked": checked,
}
"""Functions that return 0 or, where an object has its secondary color, 1 at coordinates u, v, rotated per object."""


def secondary_color(color: Color) -> Color:
    """Return a darker color, or a lighter one for a dark color."""
    is_dark = max(color) < 100
    red, green, blue = (part + 0.35 * (255 - part) if is_dark else 0.62 * part for part in color)
    return red, green, blue
