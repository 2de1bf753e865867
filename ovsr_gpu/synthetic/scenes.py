"""Synthetic scenes with exact ground truth: patterned, colored shapes on textured grounds.

The generator is frozen: a seed gives the same bytes on every platform and in every release with this `VERSION`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovsr_gpu.synthetic.draws import Draws, Field, soften
from ovsr_gpu.synthetic.shapes import SHAPES, Mask
from ovsr_gpu.synthetic.surfaces import COLORS, GROUNDS, PATTERNS, second_tone

VERSION = 1
HEIGHT, WIDTH = 288, 384

CLASSES = (*SHAPES, *GROUNDS)
"""Names of the label values, in order."""

COMBINATIONS = tuple((color, shape) for shape in SHAPES for color in COLORS)
UNSEEN_COMBINATIONS = tuple((list(COLORS)[(3 * place) % len(COLORS)], shape) for place, shape in enumerate(SHAPES))
"""One color of each shape that training never shows."""
SEEN_COMBINATIONS = tuple(pair for pair in COMBINATIONS if pair not in UNSEEN_COMBINATIONS)

TEST_SEEDS = range(200)
VALIDATION_SEEDS = range(1_000, 1_200)
"""What the settings of the training were chosen on."""
FIRST_TRAINING_SEED = 1_000_000

FEWEST_OBJECTS, MAX_OBJECTS = 3, 6
MIN_VISIBLE = 0.65
"""Fraction of an object's area that others may not cover."""


@dataclass(frozen=True)
class SceneObject:
    """An object in words; a ground is one without pattern and color."""

    pattern: str
    color: str
    shape: str

    @property
    def caption(self) -> str:
        return " ".join(filter(None, (self.pattern, self.color, self.shape)))


@dataclass(frozen=True)
class Scene:
    """An image and all that is true of it.

    pixels: `[H, W, 3]` uint8. labels: `[H, W]` uint8, index into CLASSES. owners: `[H, W]` uint8, 0 for the ground,
    n for the n-th of `objects`, those behind first; all have different shapes. grounds: one or two, the upper first.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    owners: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    grounds: tuple[str, ...]

    @property
    def caption(self) -> str:
        """Such as "plain red star and striped blue ring on sand"."""
        return f"{_listed([one.caption for one in self.objects])} on {_listed(self.grounds)}"

    @property
    def things(self) -> NDArray[np.int64]:
        """What each pixel belongs to, owner and label in one number: owner x len(CLASSES) + label, `[H, W]`."""
        return self.owners.astype(np.int64) * len(CLASSES) + self.labels

    def contents(self, region_map: NDArray[np.integer], count: int) -> list[tuple[SceneObject, float]]:
        """What fills most of each region, and what fraction of the region that is.

        region_map: `[H, W]`, the numbers 0..count-1 of regions that each have a pixel.
        """
        width = (len(self.objects) + 1) * len(CLASSES)
        pixels = np.bincount((region_map.astype(np.int64) * width + self.things).ravel(), minlength=count * width)
        filled = []
        for region in pixels.reshape(count, width):
            owner, label = divmod(int(region.argmax()), len(CLASSES))
            thing = self.objects[owner - 1] if owner else SceneObject("", "", CLASSES[label])
            filled.append((thing, float(region.max() / region.sum())))
        return filled


def make_scene(seed: int, combinations: Sequence[tuple[str, str]] = COMBINATIONS) -> Scene:
    """The scene of a seed, with objects of the `combinations` of color and shape alone."""
    draws = Draws(VERSION, seed)
    canvas, labels, grounds = _paint_grounds(draws)
    owners = np.zeros((HEIGHT, WIDTH), np.uint8)
    objects: list[SceneObject] = []
    areas: list[int] = []
    for shape in draws.sample(tuple(SHAPES), draws.whole(FEWEST_OBJECTS, MAX_OBJECTS)):
        color = draws.choice([color for color, other in combinations if other == shape])
        thing = SceneObject(draws.choice(tuple(PATTERNS)), color, shape)
        placed = _Placed(draws, shape)
        covered = np.bincount(owners[placed.window][placed.mask], minlength=len(areas) + 1)[1:]
        visible = np.bincount(owners.ravel(), minlength=len(areas) + 1)[1:] - covered
        if any(left < MIN_VISIBLE * area for left, area in zip(visible.tolist(), areas, strict=True)):
            continue
        placed.paint(draws, canvas, thing)
        objects.append(thing)
        areas.append(int(np.count_nonzero(placed.mask)))
        owners[placed.window][placed.mask] = len(objects)
        labels[placed.window][placed.mask] = CLASSES.index(shape)
    return Scene(_photographed(draws, canvas), labels, owners, tuple(objects), grounds)


def _paint_grounds(draws: Draws) -> tuple[Field, NDArray[np.uint8], tuple[str, ...]]:
    """One ground, or two that meet at a wavy line."""
    grounds = draws.sample(tuple(GROUNDS), draws.whole(1, 2))
    canvas = GROUNDS[grounds[0]](draws, HEIGHT, WIDTH)
    labels = np.full((HEIGHT, WIDTH), CLASSES.index(grounds[0]), np.uint8)
    if len(grounds) == 2:
        line = HEIGHT * (np.float32(draws.uniform(0.3, 0.6)) + np.float32(0.15) * draws.noise(1, WIDTH, 1, 90))
        below = np.arange(HEIGHT, dtype=np.float32)[:, None] >= line
        canvas[below] = GROUNDS[grounds[1]](draws, HEIGHT, WIDTH)[below]
        labels[below] = CLASSES.index(grounds[1])
    return canvas, labels, tuple(grounds)


class _Placed:
    """A shape somewhere in the image: its window, its coordinates, its mask and its smooth coverage."""

    def __init__(self, draws: Draws, shape: str) -> None:
        radius = draws.uniform(0.17, 0.30) * HEIGHT
        x, y = draws.uniform(0.85 * radius, WIDTH - 0.85 * radius), draws.uniform(0.85 * radius, HEIGHT - 0.85 * radius)
        self.cosine, self.sine = draws.turn(0.2)
        self.mirror = draws.choice((-1.0, 1.0))
        reach = 1.5 * radius
        top, left = max(int(y - reach), 0), max(int(x - reach), 0)
        bottom, right = min(int(y + reach) + 1, HEIGHT), min(int(x + reach) + 1, WIDTH)
        self.window = slice(top, bottom), slice(left, right)
        twice = (np.arange(2 * (bottom - top), dtype=np.float32) / 2 + np.float32(top - 0.25 - y)) / np.float32(radius)
        along = (np.arange(2 * (right - left), dtype=np.float32) / 2 + np.float32(left - 0.25 - x)) / np.float32(radius)
        down, across = twice[:, None], along[None] * np.float32(self.mirror)
        self.u = across * np.float32(self.cosine) + down * np.float32(self.sine)
        self.v = down * np.float32(self.cosine) - across * np.float32(self.sine)
        fine = SHAPES[shape](self.u, self.v)
        self.coverage = _quartered(fine.astype(np.float32))
        self.mask: Mask = self.coverage >= 0.5

    def paint(self, draws: Draws, canvas: Field, thing: SceneObject) -> None:
        """Lay the object over the canvas, with a shadow, its pattern, and light from above."""
        part = canvas[self.window]
        shadow = self.coverage
        for _ in range(4):
            shadow = soften(shadow)
        part[4:, 3:] *= 1 - np.float32(draws.uniform(0.1, 0.5)) * shadow[:-4, :-3, None]
        cosine, sine = draws.turn(0.4)
        turned = self.u * np.float32(cosine) + self.v * np.float32(sine)
        upright = self.v * np.float32(cosine) - self.u * np.float32(sine)
        second = _quartered(PATTERNS[thing.pattern](draws, turned, upright))[:, :, None]
        color = COLORS[thing.color]
        jitter = 20 * draws.units(3) - 10
        light = 1 - np.float32(draws.uniform(0, 0.18)) * _quartered(self.v + self.u * np.float32(0.5))
        first, last = np.array(color, np.float32), np.array(second_tone(color), np.float32)
        surface = (first + (last - first) * second + jitter) * light[:, :, None]
        part += (surface - part) * self.coverage[:, :, None]


def _quartered(fine: Field) -> Field:
    """Means of 2x2 squares."""
    return (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * np.float32(0.25)


def _photographed(draws: Draws, canvas: Field) -> NDArray[np.uint8]:
    """The canvas under uneven light, blurred, with noise, as uint8."""
    down = np.arange(HEIGHT, dtype=np.float32)[:, None] / np.float32(HEIGHT) - np.float32(0.5)
    across = np.arange(WIDTH, dtype=np.float32) / np.float32(WIDTH) - np.float32(0.5)
    light = 1 + down * np.float32(draws.uniform(-0.25, 0.25)) + across * np.float32(draws.uniform(-0.25, 0.25))
    canvas = canvas * light[:, :, None]
    for _ in range(draws.whole(0, 2)):
        canvas = soften(canvas)
    amplitude = np.float32(draws.uniform(0, 14))
    noise = draws.units(HEIGHT, WIDTH, 3) + draws.units(HEIGHT, WIDTH, 3) - 1
    return np.floor(np.minimum(np.maximum(canvas + amplitude * noise, 0), 255) + np.float32(0.5)).astype(np.uint8)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
