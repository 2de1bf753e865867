"""COCO panoptic annotations: `panoptic.json` and, in `panoptic/`, a PNG a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovsr_gpu import __version__
from ovsr_gpu.export.atomic import replacing
from ovsr_gpu.export.coco import Row, write_data_set
from ovsr_gpu.export.masks import paint_regions
from ovsr_gpu.stages.vocabulary import SOMETHING_ELSE


def write_panoptic(pictures: Callable[[], Iterator[list[Row]]], classes: Sequence[str], out: Path) -> None:
    """Write every region as a segment of its picture, numbered from 1, and categories numbered from 1.

    A segment's number is its colour, R + 256 G + 65536 B. All categories are things, because every region is a segment
    of its own, while "stuff" would have one segment a class.
    """
    names = [*classes, SOMETHING_ELSE]
    categories = ({"id": number, "name": name, "isthing": 1} for number, name in enumerate(names, start=1))
    description = f"Labelled by ovsr-gpu {__version__}; all categories are things, since every region is a segment"
    annotations = (_write_picture(number, regions, out) for number, regions in enumerate(pictures(), start=1))
    write_data_set(out / "panoptic.json", description, pictures(), annotations, categories)


def _write_picture(image: int, regions: list[Row], out: Path) -> dict[str, Any]:
    name = f"{regions[0]['picture']}.png"
    numbers = paint_regions(regions, range(1, len(regions) + 1))
    colors = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    with replacing(out / "panoptic" / name) as file:
        Image.fromarray(colors).save(file, format="PNG")
    return {
        "image_id": image,
        "file_name": name,
        "segments_info": [_segment(number, row) for number, row in enumerate(regions, start=1)],
    }


def _segment(number: int, row: Row) -> dict[str, Any]:
    x0, y0, x1, y1 = row["box"]
    return {
        "id": number,
        "category_id": row["class_index"] + 1,
        "area": row["area"],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": 0,
    }
