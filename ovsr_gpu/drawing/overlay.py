"""Images for people: the class colors over the photograph, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from ovsr_gpu.drawing.fonts import Font, choose_font
from ovsr_gpu.drawing.palette import Array

LONGEST_SIDE = 1600
SHORTEST_LONG_SIDE = 256
MIN_SIDE = 16
"""Pixels: larger images are reduced and smaller ones enlarged, keeping their proportions down to the least side."""

COLOR_OPACITY = 0.55
MAX_ENTRIES = 24
PAPER, INK, FAINT_INK = (255, 255, 255), (32, 32, 32), (120, 120, 120)


def draw_overlay(
    pixels: Array, class_map: Array, region_map: Array, names: Sequence[str], colors: Array
) -> Image.Image:
    """The image under its class colors, region borders as thin lines, and a legend below it or, if tall, beside it.

    pixels: `[H, W, 3]` uint8. class_map, region_map: `[H, W]` integers. names, colors (`[L+1, 3]` uint8): of the L
    classes and "something else".
    """
    image = paint(pixels, class_map, region_map, colors)
    beside = image.height > 1.2 * image.width
    size = int(np.clip(max(image.size) / 45, 14, 26))
    entries = _legend_entries(class_map, names, colors, size)
    width = max(entry.width for entry in entries) if beside else max(image.width, 16 * size)
    legend = _draw_legend(entries, width, size)
    if beside:
        canvas = Image.new("RGB", (image.width + legend.width, max(image.height, legend.height)), PAPER)
        canvas.paste(legend, (image.width, 0))
    else:
        canvas = Image.new("RGB", (max(image.width, legend.width), image.height + legend.height), PAPER)
        canvas.paste(legend, (0, image.height))
    canvas.paste(image, (0, 0))
    return canvas


def paint(pixels: Array, class_map: Array, region_map: Array, colors: Array) -> Image.Image:
    """The image `[H, W, 3]` uint8, its class colors and its borders, at the size to show.

    class_map, region_map: `[H, W]` integers. colors: `[L+1, 3]` uint8.
    """
    height, width = class_map.shape
    longest = max(height, width)
    scale = min(LONGEST_SIDE / longest, max(1, SHORTEST_LONG_SIDE // longest))
    shown_height, shown_width = (max(MIN_SIDE, round(side * scale)) for side in (height, width))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    image = Image.fromarray(pixels).resize((shown_width, shown_height), method, reducing_gap=2)
    # With half of its own colors taken out, the image cannot be mistaken for a class.
    image = ImageEnhance.Color(image).enhance(0.5)

    rows = np.arange(shown_height) * height // shown_height
    columns = np.arange(shown_width) * width // shown_width
    classes = class_map[rows[:, None], columns]
    regions = region_map[rows[:, None], columns]
    painted = Image.blend(image, Image.fromarray(colors[classes]), COLOR_OPACITY)
    painted.paste(PAPER, mask=Image.fromarray(_borders(regions)))
    return painted


def _borders(regions: Array) -> Array:
    """Which pixels touch another region on their left or above, twice as wide in large maps: `[h, w]` bool."""
    border = np.zeros(regions.shape, bool)
    for step in range(1, 3 if max(regions.shape) > 900 else 2):
        border[:, step:] |= regions[:, step:] != regions[:, :-step]
        border[step:] |= regions[step:] != regions[:-step]
    return border


@dataclass(frozen=True)
class _Entry:
    color: tuple[int, ...]
    name: str
    fraction: str
    name_font: Font
    fraction_font: Font
    size: int

    @property
    def width(self) -> int:
        gaps = self.size * 3.5  # before the swatch, the swatch, around the name and after the fraction
        return round(gaps + self.name_font.getlength(self.name) + self.fraction_font.getlength(self.fraction))

    def draw(self, draw: ImageDraw.ImageDraw, x: float, middle: float) -> None:
        size = self.size
        x += size * 0.5
        draw.rounded_rectangle((x, middle - size / 2, x + size, middle + size / 2), size // 5, fill=self.color)
        x += size * 1.5
        draw.text((x, middle), self.name, fill=INK, font=self.name_font, anchor="lm")
        x += self.name_font.getlength(self.name) + size * 0.5
        draw.text((x, middle), self.fraction, fill=FAINT_INK, font=self.fraction_font, anchor="lm")


def _legend_entries(class_map: Array, names: Sequence[str], colors: Array, size: int) -> list[_Entry]:
    """The classes in the image, the largest first."""
    areas = np.bincount(class_map.ravel(), minlength=len(names))
    present = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    entries = []
    for index in present[:MAX_ENTRIES]:
        name, fraction = shorten(names[index]), _percent(areas[index] / areas.sum())
        font, name = choose_font(name, size, f"class {index}")
        entries.append(
            _Entry(tuple(colors[index].tolist()), name, fraction, font, choose_font(fraction, size, "")[0], size)
        )
    if left := present[MAX_ENTRIES:]:
        name, fraction = f"{len(left)} more", _percent(areas[left].sum() / areas.sum())
        font = choose_font(name, size, "")[0]
        entries.append(_Entry(PAPER, name, fraction, font, font, size))
    return entries


def _draw_legend(entries: Sequence[_Entry], width: int, size: int) -> Image.Image:
    """A strip at least `width` pixels wide in which the entries stand in lines."""
    lines: list[list[_Entry]] = [[]]
    for entry in entries:
        if lines[-1] and sum(each.width for each in lines[-1]) + entry.width > width:
            lines.append([])
        lines[-1].append(entry)
    line_height = round(size * 1.7)
    width = max(width, *(sum(entry.width for entry in line) for line in lines))
    legend = Image.new("RGB", (width, len(lines) * line_height + size), PAPER)
    draw = ImageDraw.Draw(legend)
    for number, line in enumerate(lines):
        x = 0
        for entry in line:
            entry.draw(draw, x, size / 2 + (number + 0.5) * line_height)
            x += entry.width
    return legend


def shorten(name: str, longest: int = 40) -> str:
    """The name on one line, its end left out where it has more than `longest` characters."""
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 3] + "..."


def _percent(fraction: float) -> str:
    return f"{fraction:.0%}" if fraction >= 0.01 else "<1%"
