"""Bar chart of the IoU of each class, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from ovsr_gpu.drawing.overlay import shorten
from ovsr_gpu.evaluation.report import percent

ROW_HEIGHT, TITLE_HEIGHT = 20, 30
NAME_WIDTH, BAR_WIDTH, COLUMN_WIDTH = 150, 180, 400
"""Pixels; a bar of BAR_WIDTH is an IoU of 1, a column has a name, a bar and a number."""
MAX_COLUMNS, MAX_ROWS = 3, 24
"""A column with MAX_ROWS rows starts another one, up to MAX_COLUMNS columns; then the columns get longer."""


def class_plot(names: Sequence[str], iou: Sequence[float | None], colors: Sequence[str], miou: float) -> str:
    """Draw a bar for the IoU of each of the L classes, in their order, column by column.

    Args:
        names: Names of the classes.
        iou: Fractions, None for a class without a target pixel.
        colors: SVG colors of the bars.
        miou: The mean, for the title.

    Returns:
        An SVG document. Its text has the color of the surrounding text.
    """
    num_columns = min(MAX_COLUMNS, ceil(len(names) / MAX_ROWS))
    num_rows = ceil(len(names) / num_columns)
    width, height = num_columns * COLUMN_WIDTH, TITLE_HEIGHT + num_rows * ROW_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="currentColor">',
        f'<text y="15" font-weight="600">IoU of each class in percent, mean {percent(miou)}</text>',
    ]
    for index, (name, value, color) in enumerate(zip(names, iou, colors, strict=True)):
        x, y = index // num_rows * COLUMN_WIDTH, TITLE_HEIGHT + index % num_rows * ROW_HEIGHT
        tooltip = "no target pixel" if value is None else percent(value)
        bar_x = NAME_WIDTH + 8
        lines += [
            f'<g transform="translate({x} {y})"><title>{escape(name)}: {tooltip}</title>',
            f'<text x="{NAME_WIDTH}" y="14" text-anchor="end">{escape(shorten(name, 22))}</text>',
            f'<rect x="{bar_x}" y="4" width="{BAR_WIDTH}" height="12" rx="2" opacity="0.08"/>',
            f'<rect x="{bar_x}" y="4" width="{BAR_WIDTH * (value or 0):.1f}" height="12" rx="2" fill="{color}"/>',
            f'<text x="{bar_x + BAR_WIDTH + 8}" y="14">{percent(value)}</text></g>',
        ]
    return "\n".join([*lines, "</svg>\n"])
