"""The IoU of every class as bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from ovsr_gpu.drawing.overlay import shorten
from ovsr_gpu.evaluation.report import percent

ROW, TOP = 20, 30
NAME, BAR, COLUMN = 150, 180, 400
"""Pixels: heights of a row and of the title, widths of a name, of a whole bar, and of a column of all three."""
MAX_COLUMNS, ROWS = 3, 24
"""Another column begins after so many rows, until there are as many as fit beside each other."""


def class_plot(names: Sequence[str], iou: Sequence[float | None], colors: Sequence[str], miou: float) -> str:
    """An SVG with a bar for each of the L classes in its color, in their order, down the columns.

    iou: shares, None for a class without a true pixel. colors: as SVG has them. Text takes the color that is around
    the drawing.
    """
    columns = min(MAX_COLUMNS, ceil(len(names) / ROWS))
    rows = ceil(len(names) / columns)
    width, height = columns * COLUMN, TOP + rows * ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="currentColor">',
        f'<text y="15" font-weight="600">IoU of each class in percent, mean {percent(miou)}</text>',
    ]
    for index, (name, value, color) in enumerate(zip(names, iou, colors, strict=True)):
        x, y = index // rows * COLUMN, TOP + index % rows * ROW
        told = "no true pixel" if value is None else percent(value)
        lines += [
            f'<g transform="translate({x} {y})"><title>{escape(name)}: {told}</title>',
            f'<text x="{NAME}" y="14" text-anchor="end">{escape(shorten(name, 22))}</text>',
            f'<rect x="{NAME + 8}" y="4" width="{BAR}" height="12" rx="2" opacity="0.08"/>',
            f'<rect x="{NAME + 8}" y="4" width="{BAR * (value or 0):.1f}" height="12" rx="2" fill="{color}"/>',
            f'<text x="{NAME + 16 + BAR}" y="14">{percent(value)}</text></g>',
        ]
    return "\n".join([*lines, "</svg>\n"])
