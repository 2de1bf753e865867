"""COCO annotations: `coco.json`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ovsr_gpu import __version__
from ovsr_gpu.interop import coco_annotation
from ovsr_gpu.runtime.atomic import json_line, replacing
from ovsr_gpu.store.store import ANNOTATION, ImageReader, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE


def write_coco(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write `coco.json`: images, annotations with run-length masks and scores, and categories numbered from 1.

    An image's "file_name" is its path in the folder that was labelled, its "path" where it really is,
    its "name" that of its other outputs.
    """
    names = [*classes, SOMETHING_ELSE]
    categories = ({"id": number, "name": name} for number, name in enumerate(names, start=1))
    description = f"Labelled by ovsr-gpu {__version__}"
    annotations = _annotations(images(ANNOTATION))
    write_dataset(out / "coco.json", description, images(ANNOTATION), annotations, categories)


def write_dataset(
    path: Path,
    description: str,
    images: Iterable[list[Row]],
    annotations: Iterable[dict[str, Any]],
    categories: Iterable[dict[str, Any]],
) -> None:
    """Write what all of COCO's files have in common, item by item; images are numbered from 1."""
    with replacing(path) as file:
        file.write(b'{"info":' + json_line({"description": description}))
        file.write(b',"images":')
        _write_array(file, (_describe_image(number, regions[0]) for number, regions in enumerate(images, start=1)))
        file.write(b',"annotations":')
        _write_array(file, annotations)
        file.write(b',"categories":')
        _write_array(file, categories)
        file.write(b"}\n")


def _describe_image(number: int, row: Row) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{row['image']}{os.path.splitext(row['file'])[1]}",
        "path": row["file"],
        "name": row["image"],
        "height": row["height"],
        "width": row["width"],
    }


def _annotations(images: Iterable[list[Row]]) -> Iterator[dict[str, Any]]:
    regions = ((image, row) for image, rows in enumerate(images, start=1) for row in rows)
    for number, (image, row) in enumerate(regions, start=1):
        yield {"id": number, **coco_annotation(image, row)}


def _write_array(file: IO[bytes], items: Iterable[Any]) -> None:
    separator = b"["
    for item in items:
        file.write(separator + json_line(item))
        separator = b","
    file.write(b"[]" if separator == b"[" else b"]")
