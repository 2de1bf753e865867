"""COCO instance annotations: `coco.json`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ovsr_gpu import __version__
from ovsr_gpu.interop import coco_annotation
from ovsr_gpu.runtime.atomic import atomic_write, json_line
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE


def write_coco(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write `coco.json`: images, annotations with run-length masks and scores, and categories.

    Images, annotations and categories are numbered from 1. The "file_name" of an image is its path relative to the
    labelled folder, "path" its absolute path or URL, "name" the name of its other outputs.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    names = [*class_names, SOMETHING_ELSE]
    categories = ({"id": number, "name": name} for number, name in enumerate(names, start=1))
    description = f"Labelled by ovsr-gpu {__version__}"
    annotations = _annotations(images(ANNOTATION_COLUMNS))
    write_dataset(out / "coco.json", description, images(ANNOTATION_COLUMNS), annotations, categories)


def write_dataset(
    path: Path,
    description: str,
    images: Iterable[list[Row]],
    annotations: Iterable[dict[str, Any]],
    categories: Iterable[dict[str, Any]],
) -> None:
    """Write a COCO dataset file item by item, so that memory use does not depend on the number of images.

    Args:
        path: The JSON file.
        description: The description in "info".
        images: The regions of each image. Images are numbered from 1.
        annotations: The items of "annotations".
        categories: The items of "categories".
    """
    with atomic_write(path) as file:
        file.write(b'{"info":' + json_line({"description": description}))
        file.write(b',"images":')
        _write_array(file, (_describe_image(image_id, regions[0]) for image_id, regions in enumerate(images, start=1)))
        file.write(b',"annotations":')
        _write_array(file, annotations)
        file.write(b',"categories":')
        _write_array(file, categories)
        file.write(b"}\n")


def _describe_image(image_id: int, row: Row) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": f"{row['image']}{os.path.splitext(row['file'])[1]}",
        "path": row["file"],
        "name": row["image"],
        "height": row["height"],
        "width": row["width"],
    }


def _annotations(images: Iterable[list[Row]]) -> Iterator[dict[str, Any]]:
    regions = ((image_id, row) for image_id, rows in enumerate(images, start=1) for row in rows)
    for annotation_id, (image_id, row) in enumerate(regions, start=1):
        yield {"id": annotation_id, **coco_annotation(image_id, row)}


def _write_array(file: IO[bytes], items: Iterable[Any]) -> None:
    separator = b"["
    for item in items:
        file.write(separator + json_line(item))
        separator = b","
    file.write(b"[]" if separator == b"[" else b"]")
