"""What grounds and objects look like: textures `[H, W, 3]`, float32 in 0..255, and the two-tone patterns of objects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ovsr_gpu.synthetic.draws import Draws, Field, soften

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
    """From color `start` (share 0) to color `end` (share 1)."""
    first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
    return first + (last - first) * fraction[:, :, None]


def grass(draws: Draws, height: int, width: int) -> Field:
    blades = draws.noise(height, width, draws.uniform(7, 13), 2)
    patches = draws.noise(height, width, 50, 60)
    return blend(blend((46, 88, 34), (64, 112, 40), patches), (128, 164, 76), blades * blades)


def water(draws: Draws, height: int, width: int) -> Field:
    waves = draws.noise(height, width, draws.uniform(4, 7), draws.uniform(22, 40))
    ripples = draws.noise(height, width, 3, 12)
    crest = waves * ripples
    return blend(blend((22, 84, 108), (50, 128, 146), waves), (188, 222, 224), crest * crest)


def sand(draws: Draws, height: int, width: int) -> Field:
    dunes = draws.noise(height, width, 30, 90)
    grain = draws.units(height, width)
    return blend(blend((190, 160, 112), (222, 196, 146), dunes), (158, 128, 90), grain * grain * np.float32(0.5))


def brick(draws: Draws, height: int, width: int) -> Field:
    course = np.float32(draws.uniform(15, 24))
    length = course * np.float32(2.4)
    down = (np.arange(height, dtype=np.float32) / course)[:, None] + draws.units(1)
    row = np.floor(down)
    half = row - 2 * np.floor(row / 2)
    along = (np.arange(width, dtype=np.float32) / length)[None] + half / 2
    column = np.floor(along)
    mortar = (down - row < 0.12) | (along - column < 0.06)
    tints = draws.units(64)[((row * 7 + column * 13) % 64).astype(np.int64)]
    faces = blend((128, 62, 48), (172, 98, 76), tints)
    grain = draws.noise(height, width, 3, 4)
    return (
        soften(np.where(mortar[:, :, None], np.array((176, 168, 158), np.float32), faces))
        * (np.float32(0.88) + grain / 5)[:, :, None]
    )


def wood(draws: Draws, height: int, width: int) -> Field:
    board = np.float32(draws.uniform(38, 60))
    down = (np.arange(height, dtype=np.float32) / board)[:, None] + draws.units(1)
    row = np.floor(down)
    seam = np.broadcast_to(down - row < 0.05, (height, width))
    tints = np.broadcast_to(draws.units(64)[row.astype(np.int64) % 64], (height, width))
    fibres = draws.noise(height, width, 2.5, 60)
    planks = blend(blend((150, 104, 58), (178, 130, 80), tints), (104, 66, 34), fibres * fibres)
    return soften(np.where(seam[:, :, None], np.array((66, 42, 24), np.float32), planks))


def sky(draws: Draws, height: int, width: int) -> Field:
    depth = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None] / np.float32(height), (height, width))
    puffs = draws.noise(height, width, 32, 70) * np.float32(0.7) + draws.noise(height, width, 12, 26) * np.float32(0.3)
    cover = np.minimum(np.maximum(puffs - np.float32(draws.uniform(0.42, 0.62)), 0) * 4, 1)
    return blend(blend((118, 168, 222), (180, 208, 236), depth), (244, 246, 250), cover)


def stone(draws: Draws, height: int, width: int) -> Field:
    lumps = draws.noise(height, width, 16, 20)
    speckle = draws.noise(height, width, 3, 3)
    cracks = np.maximum(1 - abs(draws.noise(height, width, 30, 36) - np.float32(0.5)) * 24, 0)
    return blend(
        blend((112, 112, 116), (158, 156, 152), lumps), (74, 74, 78), np.maximum(cracks, speckle * speckle / 2)
    )


GROUNDS: dict[str, Callable[[Draws, int, int], Field]] = {
    "grass": grass,
    "water": water,
    "sand": sand,
    "brick": brick,
    "wood": wood,
    "sky": sky,
    "stone": stone,
}


def plain(draws: Draws, u: Field, v: Field) -> Field:
    return np.zeros_like(u)


def striped(draws: Draws, u: Field, v: Field) -> Field:
    return _alternate(u * np.float32(draws.uniform(2.5, 4)) + draws.units(1))


def dotted(draws: Draws, u: Field, v: Field) -> Field:
    density = np.float32(draws.uniform(2, 3))
    across, down = u * density + draws.units(1), v * density + draws.units(1)
    across, down = across - np.floor(across) - np.float32(0.5), down - np.floor(down) - np.float32(0.5)
    return (across * across + down * down < 0.09).astype(np.float32)


def checked(draws: Draws, u: Field, v: Field) -> Field:
    density = np.float32(draws.uniform(2, 3))
    return abs(_alternate(u * density + draws.units(1)) - _alternate(v * density + draws.units(1)))


def _alternate(position: Field) -> Field:
    whole = np.floor(position)
    return whole - 2 * np.floor(whole / 2)


PATTERNS: dict[str, Callable[[Draws, Field, Field], Field]] = {
    "plain": plain,
    "striped": striped,
    "dotted": dotted,
    "checked": checked,
}
"""Where an object has its second tone: 0 or 1 at the coordinates u, v, which are turned for each object."""


def second_tone(color: Color) -> Color:
    """Darker, or lighter for a dark color."""
    dark = max(color) < 100
    red, green, blue = (part + 0.35 * (255 - part) if dark else 0.62 * part for part in color)
    return red, green, blue
