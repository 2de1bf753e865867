"""Synthetic scenes with exact ground truth: patterned, colored shapes on textured backgrounds.

The generator is frozen: a seed gives the same bytes on every platform and in every release with this `VERSION`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovsr_gpu.synthetic.random_stream import Field, RandomStream, soften
from ovsr_gpu.synthetic.shapes import SHAPES, Mask
from ovsr_gpu.synthetic.surfaces import BACKGROUNDS, COLORS, PATTERNS, secondary_color

VERSION = 1
HEIGHT, WIDTH = 288, 384

CLASSES = (*SHAPES, *BACKGROUNDS)
"""Class names in the order of the label values."""

COMBINATIONS = tuple((color, shape) for shape in SHAPES for color in COLORS)
UNSEEN_COMBINATIONS = tuple((list(COLORS)[(3 * index) % len(COLORS)], shape) for index, shape in enumerate(SHAPES))
"""One color of each shape that the training scenes never contain."""
SEEN_COMBINATIONS = tuple(pair for pair in COMBINATIONS if pair not in UNSEEN_COMBINATIONS)

TEST_SEEDS = range(200)
VALIDATION_SEEDS = range(1_000, 1_200)
"""Seeds on which the training settings were chosen."""
FIRST_TRAINING_SEED = 1_000_000

MIN_OBJECTS, MAX_OBJECTS = 3, 6
MIN_VISIBLE = 0.65
"""Minimum fraction of an object's area that other objects leave visible."""


@dataclass(frozen=True)
class SceneObject:
    """The attributes of an object, by name; a background has an empty pattern and color, and its class as the shape."""

    pattern: str
    color: str
    shape: str

    @property
    def caption(self) -> str:
        """A caption such as "striped red star"."""
        return " ".join(filter(None, (self.pattern, self.color, self.shape)))


@dataclass(frozen=True)
class Scene:
    """An image with its ground truth.

    Attributes:
        pixels: `[H, W, 3]` uint8.
        labels: `[H, W]` uint8, the index into CLASSES.
        instance_map: `[H, W]` uint8, 0 for the background, n for the n-th of `objects`.
        objects: From back to front; all have different shapes.
        backgrounds: Names of one or two backgrounds, the upper one first.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instance_map: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    backgrounds: tuple[str, ...]

    @property
    def caption(self) -> str:
        """A caption such as "plain red star and striped blue ring on sand"."""
        return f"{_enumerate_names([item.caption for item in self.objects])} on {_enumerate_names(self.backgrounds)}"

    @property
    def region_ids(self) -> NDArray[np.int64]:
        """One number for instance and label of each pixel: instance x len(CLASSES) + label, `[H, W]`."""
        return self.instance_map.astype(np.int64) * len(CLASSES) + self.labels

    def region_contents(self, region_map: NDArray[np.integer], num_regions: int) -> list[tuple[SceneObject, float]]:
        """Return the object or background with the most pixels of each region, and its fraction of the region.

        Args:
            region_map: `[H, W]` integers in 0..num_regions - 1; each region has at least one pixel.
            num_regions: Number of regions.

        Returns:
            One pair per region.
        """
        num_ids = (len(self.objects) + 1) * len(CLASSES)
        ids = region_map.astype(np.int64) * num_ids + self.region_ids
        counts = np.bincount(ids.ravel(), minlength=num_regions * num_ids)
        contents = []
        for region_counts in counts.reshape(num_regions, num_ids):
            instance, label = divmod(int(region_counts.argmax()), len(CLASSES))
            item = self.objects[instance - 1] if instance else SceneObject("", "", CLASSES[label])
            contents.append((item, float(region_counts.max() / region_counts.sum())))
        return contents


def make_scene(seed: int, combinations: Sequence[tuple[str, str]] = COMBINATIONS) -> Scene:
    """Generate a scene.

    Args:
        seed: Seed of the random numbers.
        combinations: Pairs of color and shape that the objects may have; every shape must occur.

    Returns:
        The scene.

    Example:
        >>> make_scene(0).pixels.shape
        (288, 384, 3)
    """
    random = RandomStream(VERSION, seed)
    canvas, labels, backgrounds = _paint_backgrounds(random)
    instance_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    objects: list[SceneObject] = []
    areas: list[int] = []
    for shape in random.sample(tuple(SHAPES), random.integer(MIN_OBJECTS, MAX_OBJECTS)):
        color = random.choice([color for color, other_shape in combinations if other_shape == shape])
        item = SceneObject(random.choice(tuple(PATTERNS)), color, shape)
        placed = _PlacedShape(random, shape)
        covered = np.bincount(instance_map[placed.window][placed.mask], minlength=len(areas) + 1)[1:]
        visible = np.bincount(instance_map.ravel(), minlength=len(areas) + 1)[1:] - covered
        if any(remaining < MIN_VISIBLE * area for remaining, area in zip(visible.tolist(), areas, strict=True)):
            continue
        placed.paint(random, canvas, item)
        objects.append(item)
        areas.append(int(np.count_nonzero(placed.mask)))
        instance_map[placed.window][placed.mask] = len(objects)
        labels[placed.window][placed.mask] = CLASSES.index(shape)
    return Scene(_simulate_camera(random, canvas), labels, instance_map, tuple(objects), backgrounds)


def _paint_backgrounds(random: RandomStream) -> tuple[Field, NDArray[np.uint8], tuple[str, ...]]:
    """Return canvas, labels and names of one background, or of two backgrounds with a wavy border."""
    backgrounds = random.sample(tuple(BACKGROUNDS), random.integer(1, 2))
    canvas = BACKGROUNDS[backgrounds[0]](random, HEIGHT, WIDTH)
    labels = np.full((HEIGHT, WIDTH), CLASSES.index(backgrounds[0]), np.uint8)
    if len(backgrounds) == 2:
        wave = random.uniform(0.3, 0.6), random.smooth_noise(1, WIDTH, 1, 90)
        border = HEIGHT * (np.float32(wave[0]) + np.float32(0.15) * wave[1])
        below = np.arange(HEIGHT, dtype=np.float32)[:, None] >= border
        canvas[below] = BACKGROUNDS[backgrounds[1]](random, HEIGHT, WIDTH)[below]
        labels[below] = CLASSES.index(backgrounds[1])
    return canvas, labels, tuple(backgrounds)


class _PlacedShape:
    """A shape at a random position: its window of the image, coordinates, mask and antialiased coverage."""

    def __init__(self, random: RandomStream, shape: str) -> None:
        radius = random.uniform(0.17, 0.30) * HEIGHT
        x = random.uniform(0.85 * radius, WIDTH - 0.85 * radius)
        y = random.uniform(0.85 * radius, HEIGHT - 0.85 * radius)
        cosine, sine = (np.float32(part) for part in random.rotation(0.2))
        mirror = random.choice((-1.0, 1.0))
        extent = 1.5 * radius
        top, left = max(int(y - extent), 0), max(int(x - extent), 0)
        bottom, right = min(int(y + extent) + 1, HEIGHT), min(int(x + extent) + 1, WIDTH)
        self.window = slice(top, bottom), slice(left, right)
        # Coordinates at twice the resolution of the window, in units of the radius.
        rows = (np.arange(2 * (bottom - top), dtype=np.float32) / 2 + np.float32(top - 0.25 - y)) / np.float32(radius)
        columns = np.arange(2 * (right - left), dtype=np.float32) / 2
        columns = (columns + np.float32(left - 0.25 - x)) / np.float32(radius)
        down, across = rows[:, None], columns[None] * np.float32(mirror)
        self.u = across * cosine + down * sine
        self.v = down * cosine - across * sine
        self.coverage = _downsample(SHAPES[shape](self.u, self.v).astype(np.float32))
        self.mask: Mask = self.coverage >= 0.5

    def paint(self, random: RandomStream, canvas: Field, item: SceneObject) -> None:
        """Paint the object over the canvas, with a shadow, its pattern, and light from above."""
        window = canvas[self.window]
        shadow = self.coverage
        for _ in range(4):
            shadow = soften(shadow)
        window[4:, 3:] *= 1 - np.float32(random.uniform(0.1, 0.5)) * shadow[:-4, :-3, None]
        cosine, sine = (np.float32(part) for part in random.rotation(0.4))
        pattern_u = self.u * cosine + self.v * sine
        pattern_v = self.v * cosine - self.u * sine
        pattern = _downsample(PATTERNS[item.pattern](random, pattern_u, pattern_v))[:, :, None]
        color = COLORS[item.color]
        jitter = 20 * random.uniform_array(3) - 10
        light = 1 - np.float32(random.uniform(0, 0.18)) * _downsample(self.v + self.u * np.float32(0.5))
        first, second = np.array(color, np.float32), np.array(secondary_color(color), np.float32)
        surface = (first + (second - first) * pattern + jitter) * light[:, :, None]
        window += (surface - window) * self.coverage[:, :, None]


def _downsample(field: Field) -> Field:
    """Return the means of 2x2 squares."""
    return (field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]) * np.float32(0.25)


def _simulate_camera(random: RandomStream, canvas: Field) -> NDArray[np.uint8]:
    """Return the canvas as uint8 with uneven light, blur and noise."""
    down = np.arange(HEIGHT, dtype=np.float32)[:, None] / np.float32(HEIGHT) - np.float32(0.5)
    across = np.arange(WIDTH, dtype=np.float32) / np.float32(WIDTH) - np.float32(0.5)
    light = 1 + down * np.float32(random.uniform(-0.25, 0.25)) + across * np.float32(random.uniform(-0.25, 0.25))
    canvas = canvas * light[:, :, None]
    for _ in range(random.integer(0, 2)):
        canvas = soften(canvas)
    amplitude = np.float32(random.uniform(0, 14))
    noise = random.uniform_array(HEIGHT, WIDTH, 3) + random.uniform_array(HEIGHT, WIDTH, 3) - 1
    return np.floor(np.minimum(np.maximum(canvas + amplitude * noise, 0), 255) + np.float32(0.5)).astype(np.uint8)


def _enumerate_names(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
