"""One image that shows what the demo did: scenes above what the program made of them, with the names in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from ovsr_gpu.drawing.fonts import choose_font
from ovsr_gpu.drawing.overlay import FAINT_INK, INK, PAPER, paint
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.models.embedded import NOTICE
from ovsr_gpu.runtime.atomic import replacing
from ovsr_gpu.store.record import Array
from ovsr_gpu.synthetic.demo_scenes import SUMMARY, DemoScores, LabelledScene
from ovsr_gpu.synthetic.scenes import CLASSES, HEIGHT, WIDTH
from ovsr_gpu.vocabulary import SOMETHING_ELSE

ROWS, COLUMNS = 2, 3
GAP, TITLE, TEXT, NAME = 18, 30, 17, 15
"""Pixels: between images, and sizes of letters."""
ERROR_INK = (176, 0, 32)


def write_summary(out: Path, labelled: Sequence[LabelledScene], scores: DemoScores) -> Path:
    """Draw the first scenes, each over its labelled regions, under a line with the scores; returns the file's path."""
    shown = labelled[: ROWS * COLUMNS]
    rows = -(-len(shown) // COLUMNS)
    cell = 2 * HEIGHT + GAP // 3
    width = COLUMNS * WIDTH + (COLUMNS + 1) * GAP
    top = 2 * GAP + TITLE + 3 * TEXT
    page = Image.new("RGB", (width, top + rows * (cell + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    title = (
        f"{scores.scenes} scenes: labelled mIoU {scores.labelled_miou:.2f}, "
        f"Hungarian mIoU {scores.hungarian_miou:.2f}, {scores.images_per_second:.1f} images/s on {scores.device}"
    )
    _write(draw, (GAP, GAP), title, TITLE, INK)
    _write(draw, (GAP, GAP + 1.4 * TITLE), NOTICE, TEXT, FAINT_INK)
    legend = "A wrong name is red and followed by the true one."
    _write(draw, (GAP, GAP + 1.4 * TITLE + 1.4 * TEXT), legend, TEXT, FAINT_INK)
    for number, one in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * (WIDTH + GAP), top + row * (cell + GAP)
        page.paste(Image.fromarray(one.scene.pixels), (x, y))
        page.paste(_named(one), (x, y + HEIGHT + GAP // 3))
    with replacing(out / SUMMARY) as file:
        page.save(file, format="PNG")
    return out / SUMMARY


def _named(one: LabelledScene) -> Image.Image:
    """The scene in its class colors, with a name on each region."""
    names = [*CLASSES, SOMETHING_ELSE]
    image = paint(one.scene.pixels, one.class_map, one.region_map, class_colors(len(CLASSES)))
    draw = ImageDraw.Draw(image)
    contents = one.scene.contents(one.region_map, len(one.class_index))
    for region, (index, (truth, _)) in enumerate(zip(one.class_index, contents, strict=True)):
        right = names[index] == truth.shape
        text = names[index] if right else f"{names[index]} (is {truth.shape})"
        font, text = choose_font(text, NAME, "")
        row, column = _inner_point(one.region_map == region)
        half = font.getlength(text) / 2 + 5
        column = float(np.clip(column, half, WIDTH - half))
        row = float(np.clip(row, NAME, HEIGHT - NAME))
        box = (column - half, row - 0.7 * NAME, column + half, row + 0.7 * NAME)
        draw.rounded_rectangle(box, NAME // 3, fill=PAPER)
        draw.text((column, row), text, fill=INK if right else ERROR_INK, font=font, anchor="mm")
    return image


def _inner_point(inside: Array) -> tuple[float, float]:
    """The pixel of a mask that lies farthest from all that is outside: its row and its column."""
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    row, column = divmod(int(depth.argmax()), inside.shape[1])
    return float(row), float(column)


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, ink: tuple[int, ...]) -> None:
    font, text = choose_font(text, size, "")
    draw.text(place, text, fill=ink, font=font)
