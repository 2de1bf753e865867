"""Summary image of the demo: scenes above their labelled regions, with the class names in the regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from ovsr_gpu.drawing.fonts import choose_font
from ovsr_gpu.drawing.overlay import BACKGROUND_COLOR, FAINT_TEXT_COLOR, TEXT_COLOR, paint
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.models.embedded import NOTICE
from ovsr_gpu.runtime.atomic import atomic_write
from ovsr_gpu.store.record import Array
from ovsr_gpu.synthetic.demo_scenes import SUMMARY, DemoScores, LabelledScene
from ovsr_gpu.synthetic.scenes import CLASSES, HEIGHT, WIDTH
from ovsr_gpu.vocabulary import SOMETHING_ELSE

ROWS, COLUMNS = 2, 3
GAP, TITLE_SIZE, TEXT_SIZE, NAME_SIZE = 18, 30, 17, 15
"""Pixels: the gap between images, and font sizes."""
ERROR_TEXT = (176, 0, 32)


def write_summary(out: Path, labelled: Sequence[LabelledScene], scores: DemoScores) -> Path:
    """Draw the first scenes with their labelled regions below, and the scores as the title.

    Args:
        out: The output folder.
        labelled: The labelled scenes.
        scores: The scores of all scenes.

    Returns:
        The path of the image.
    """
    visible = labelled[: ROWS * COLUMNS]
    rows = -(-len(visible) // COLUMNS)
    cell = 2 * HEIGHT + GAP // 3
    width = COLUMNS * WIDTH + (COLUMNS + 1) * GAP
    top = 2 * GAP + TITLE_SIZE + 3 * TEXT_SIZE
    page = Image.new("RGB", (width, top + rows * (cell + GAP)), BACKGROUND_COLOR)
    draw = ImageDraw.Draw(page)
    title = (
        f"{scores.scenes} scenes: labelled mIoU {scores.labelled_miou:.2f}, "
        f"Hungarian mIoU {scores.hungarian_miou:.2f}, {scores.images_per_second:.1f} images/s on {scores.device}"
    )
    _write(draw, (GAP, GAP), title, TITLE_SIZE, TEXT_COLOR)
    _write(draw, (GAP, GAP + 1.4 * TITLE_SIZE), NOTICE, TEXT_SIZE, FAINT_TEXT_COLOR)
    legend = "Wrong names are red, followed by the right name."
    _write(draw, (GAP, GAP + 1.4 * TITLE_SIZE + 1.4 * TEXT_SIZE), legend, TEXT_SIZE, FAINT_TEXT_COLOR)
    for index, labelled_scene in enumerate(visible):
        row, column = divmod(index, COLUMNS)
        x, y = GAP + column * (WIDTH + GAP), top + row * (cell + GAP)
        page.paste(Image.fromarray(labelled_scene.scene.pixels), (x, y))
        page.paste(_draw_names(labelled_scene), (x, y + HEIGHT + GAP // 3))
    with atomic_write(out / SUMMARY) as file:
        page.save(file, format="PNG")
    return out / SUMMARY


def _draw_names(labelled: LabelledScene) -> Image.Image:
    """Return the scene in its class colors with a name on each region."""
    names = [*CLASSES, SOMETHING_ELSE]
    image = paint(labelled.scene.pixels, labelled.class_map, labelled.region_map, class_colors(len(CLASSES)))
    draw = ImageDraw.Draw(image)
    contents = labelled.scene.region_contents(labelled.region_map, len(labelled.class_index))
    for region, (index, (target, _)) in enumerate(zip(labelled.class_index, contents, strict=True)):
        is_right = names[index] == target.shape
        text = names[index] if is_right else f"{names[index]} (is {target.shape})"
        font, text = choose_font(text, NAME_SIZE, "")
        row, column = _innermost_pixel(labelled.region_map == region)
        half_width = font.getlength(text) / 2 + 5
        column = float(np.clip(column, half_width, WIDTH - half_width))
        row = float(np.clip(row, NAME_SIZE, HEIGHT - NAME_SIZE))
        box = (column - half_width, row - 0.7 * NAME_SIZE, column + half_width, row + 0.7 * NAME_SIZE)
        draw.rounded_rectangle(box, NAME_SIZE // 3, fill=BACKGROUND_COLOR)
        draw.text((column, row), text, fill=TEXT_COLOR if is_right else ERROR_TEXT, font=font, anchor="mm")
    return image


def _innermost_pixel(mask: Array) -> tuple[float, float]:
    """Return row and column of the pixel with the largest distance to the outside of the mask."""
    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = divmod(int(distance.argmax()), mask.shape[1])
    return float(row), float(column)


def _write(
    draw: ImageDraw.ImageDraw, position: tuple[float, float], text: str, size: int, color: tuple[int, ...]
) -> None:
    font, text = choose_font(text, size, "")
    draw.text(position, text, fill=color, font=font)
