"""COCO panoptic annotations: `panoptic.json`, and one PNG per image in `panoptic/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovsr_gpu import __version__
from ovsr_gpu.export.coco_annotations import write_dataset
from ovsr_gpu.runtime.atomic import atomic_write
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.record import Array, LabelledImage
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary


class PanopticWriter:
    """Writer of `panoptic/<name>.png`; an `ImageWriter`.

    Every region is a segment. Segments are numbered from 1; the color of a segment is its number R + 256 G + 65536 B.

    Args:
        out: The run's folder.
        vocabulary: Not used.
    """

    def __init__(self, out: Path, vocabulary: Vocabulary) -> None:
        self._out = out

    def write(self, record: LabelledImage) -> None:
        """Write the PNG of one image."""
        _write_segments(record.source.name, record.region_map + 1, self._out)


def write_panoptic(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write the files of `PanopticWriter` and `write_panoptic_json` from the store.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    for regions in images(ANNOTATION_COLUMNS):
        _write_segments(regions[0]["image"], paint_regions(regions, range(1, len(regions) + 1)), out)
    write_panoptic_json(images, class_names, out)


def write_panoptic_json(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write `panoptic.json`: the segments of all images, and categories numbered from 1.

    All categories are things, because every region is a separate segment; "stuff" has one segment per class.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    names = [*class_names, SOMETHING_ELSE]
    categories = ({"id": number, "name": name, "isthing": 1} for number, name in enumerate(names, start=1))
    description = f"Labelled by ovsr-gpu {__version__}; all categories are things, since every region is a segment"
    annotations = _annotations(images(ANNOTATION_COLUMNS))
    write_dataset(out / "panoptic.json", description, images(ANNOTATION_COLUMNS), annotations, categories)


def _write_segments(name: str, numbers: Array, out: Path) -> None:
    colors = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    with atomic_write(out / "panoptic" / f"{name}.png") as file:
        Image.fromarray(colors).save(file, format="PNG", compress_level=3)


def _annotations(images: Iterator[list[Row]]) -> Iterator[dict[str, Any]]:
    for image_id, regions in enumerate(images, start=1):
        yield {
            "image_id": image_id,
            "file_name": f"{regions[0]['image']}.png",
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
