"""COCO annotations: `coco.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from ovsr_gpu import __version__
from ovsr_gpu.export.atomic import json_line, replacing
from ovsr_gpu.export.record import LabelledPicture
from ovsr_gpu.stages.vocabulary import SOMETHING_ELSE


class CocoWriter:
    """`coco.json`: images, annotations with run-length masks and scores, categories numbered from 1.

    It is put together on `close` from the lines of `regions.jsonl`, one at a time, so memory does not grow with the
    run. In the list of writers it stands before the writer of those lines: then each line's picture is known here.
    """

    ordered = True

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        self._out = out
        self._names = [*classes, SOMETHING_ELSE]
        self._images = TemporaryFile(dir=out)  # noqa: SIM115 (open until `close`)
        self._count = 0

    def write(self, record: LabelledPicture) -> None:
        height, width = record.region_map.shape
        self._count += 1
        image = {
            "id": self._count,
            "file_name": str(record.picture.path),
            "name": record.picture.name,
            "height": height,
            "width": width,
        }
        self._images.write(json_line(image))

    def close(self) -> None:
        with (
            self._images,
            (self._out / "regions.jsonl").open("rb") as regions,
            replacing(self._out / "coco.json") as file,
        ):
            file.write(b'{"info":' + json_line({"description": f"Labelled by ovsr-gpu {__version__}"}))
            file.write(b',"images":')
            _write_array(file, self._read_images())
            file.write(b',"annotations":')
            _write_array(file, self._annotations(regions))
            categories = ({"id": number, "name": name} for number, name in enumerate(self._names, start=1))
            file.write(b',"categories":')
            _write_array(file, categories)
            file.write(b"}\n")

    def _read_images(self) -> Iterator[dict[str, Any]]:
        self._images.seek(0)
        return map(json.loads, self._images)

    def _annotations(self, regions: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        images = self._read_images()
        image: dict[str, Any] = {"name": None}
        for number, region in enumerate(map(json.loads, regions), start=1):
            while image["name"] != region["picture"]:  # both are in the order of the pictures
                image = next(images)
            x0, y0, x1, y1 = region["box"]
            yield {
                "id": number,
                "image_id": image["id"],
                "category_id": region["class_index"] + 1,
                "segmentation": region["rle"],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": region["area"],
                "iscrowd": 0,
                "score": region["score"],
            }


def _write_array(file: IO[bytes], items: Iterable[Any]) -> None:
    separator = b"["
    for item in items:
        file.write(separator + json_line(item))
        separator = b","
    file.write(b"[]" if separator == b"[" else b"]")
