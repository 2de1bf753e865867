"""Overlays: class colors over the image, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from ovsr_gpu.drawing.fonts import Font, choose_font
from ovsr_gpu.drawing.palette import Array

MAX_LONG_SIDE = 1600
MIN_LONG_SIDE = 256
MIN_SHORT_SIDE = 16
"""Pixels. Larger images are reduced and smaller ones enlarged; the aspect ratio is kept unless the short side would get
too small."""

COLOR_OPACITY = 0.55
MAX_LEGEND_ENTRIES = 24
BACKGROUND_COLOR, TEXT_COLOR, FAINT_TEXT_COLOR = (255, 255, 255), (32, 32, 32), (120, 120, 120)


def draw_overlay(
    pixels: Array, class_map: Array, region_map: Array, names: Sequence[str], colors: Array
) -> Image.Image:
    """Draw class colors over an image, region borders as thin lines, and a legend.

    The legend is below the image, or to its right if the image is tall.

    Args:
        pixels: `[H, W, 3]` uint8, the image.
        class_map: `[H, W]` integers, class indices.
        region_map: `[H, W]` integers, region numbers.
        names: Names of the L classes and of "something else".
        colors: `[L+1, 3]` uint8, their colors.

    Returns:
        An RGB image.
    """
    image = paint(pixels, class_map, region_map, colors)
    legend_at_right = image.height > 1.2 * image.width
    size = int(np.clip(max(image.size) / 45, 14, 26))
    entries = _legend_entries(class_map, names, colors, size)
    width = max(entry.width for entry in entries) if legend_at_right else max(image.width, 16 * size)
    legend = _draw_legend(entries, width, size)
    if legend_at_right:
        canvas = Image.new("RGB", (image.width + legend.width, max(image.height, legend.height)), BACKGROUND_COLOR)
        canvas.paste(legend, (image.width, 0))
    else:
        canvas = Image.new("RGB", (max(image.width, legend.width), image.height + legend.height), BACKGROUND_COLOR)
        canvas.paste(legend, (0, image.height))
    canvas.paste(image, (0, 0))
    return canvas


def paint(pixels: Array, class_map: Array, region_map: Array, colors: Array) -> Image.Image:
    """Draw class colors and region borders over an image, without a legend.

    Args:
        pixels: `[H, W, 3]` uint8, the image.
        class_map: `[H, W]` integers, class indices.
        region_map: `[H, W]` integers, region numbers.
        colors: `[L+1, 3]` uint8, the colors of the classes and of "something else".

    Returns:
        An RGB image, reduced or enlarged if the image is very large or small.
    """
    height, width = class_map.shape
    long_side = max(height, width)
    scale = min(MAX_LONG_SIDE / long_side, max(1, MIN_LONG_SIDE // long_side))
    out_height, out_width = (max(MIN_SHORT_SIDE, round(side * scale)) for side in (height, width))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    image = Image.fromarray(pixels).resize((out_width, out_height), method, reducing_gap=2)
    # Reduce the saturation, so that the image is not mistaken for a class color.
    image = ImageEnhance.Color(image).enhance(0.5)

    rows = np.arange(out_height) * height // out_height
    columns = np.arange(out_width) * width // out_width
    classes = class_map[rows[:, None], columns]
    regions = region_map[rows[:, None], columns]
    painted = Image.blend(image, Image.fromarray(colors[classes]), COLOR_OPACITY)
    painted.paste(BACKGROUND_COLOR, mask=Image.fromarray(_borders(regions)))
    return painted


def _borders(regions: Array) -> Array:
    """Return the pixels with another region to their left or above, twice as wide in large maps: `[H, W]` bool."""
    border = np.zeros(regions.shape, bool)
    for step in range(1, 3 if max(regions.shape) > 900 else 2):
        border[:, step:] |= regions[:, step:] != regions[:, :-step]
        border[step:] |= regions[step:] != regions[:-step]
    return border


@dataclass(frozen=True)
class _LegendEntry:
    """A color swatch, a class name and its fraction of the image."""

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
        draw.text((x, middle), self.name, fill=TEXT_COLOR, font=self.name_font, anchor="lm")
        x += self.name_font.getlength(self.name) + size * 0.5
        draw.text((x, middle), self.fraction, fill=FAINT_TEXT_COLOR, font=self.fraction_font, anchor="lm")


def _legend_entries(class_map: Array, names: Sequence[str], colors: Array, size: int) -> list[_LegendEntry]:
    """Return the classes that occur in the image, the largest first."""
    areas = np.bincount(class_map.ravel(), minlength=len(names))
    present = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    entries = []
    for index in present[:MAX_LEGEND_ENTRIES]:
        name, fraction = shorten(names[index]), _percent(areas[index] / areas.sum())
        font, name = choose_font(name, size, f"class {index}")
        entries.append(
            _LegendEntry(tuple(colors[index].tolist()), name, fraction, font, choose_font(fraction, size, "")[0], size)
        )
    if rest := present[MAX_LEGEND_ENTRIES:]:
        name, fraction = f"{len(rest)} more", _percent(areas[rest].sum() / areas.sum())
        font = choose_font(name, size, "")[0]
        entries.append(_LegendEntry(BACKGROUND_COLOR, name, fraction, font, font, size))
    return entries


def _draw_legend(entries: Sequence[_LegendEntry], width: int, size: int) -> Image.Image:
    """Draw the entries in lines, in an image at least `width` pixels wide."""
    lines: list[list[_LegendEntry]] = [[]]
    for entry in entries:
        if lines[-1] and sum(previous.width for previous in lines[-1]) + entry.width > width:
            lines.append([])
        lines[-1].append(entry)
    line_height = round(size * 1.7)
    width = max(width, *(sum(entry.width for entry in line) for line in lines))
    legend = Image.new("RGB", (width, len(lines) * line_height + size), BACKGROUND_COLOR)
    draw = ImageDraw.Draw(legend)
    for line_index, line in enumerate(lines):
        x = 0
        for entry in line:
            entry.draw(draw, x, size / 2 + (line_index + 0.5) * line_height)
            x += entry.width
    return legend


def shorten(name: str, max_length: int = 40) -> str:
    """Return a name on one line, cut off if it has more than `max_length` characters."""
    name = " ".join(name.split())
    return name if len(name) <= max_length else name[: max_length - 3] + "..."


def _percent(fraction: float) -> str:
    return f"{fraction:.0%}" if fraction >= 0.01 else "<1%"
