"""Regions as lines of JSON: `regions.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

from ovsr_gpu.export.atomic import json_line
from ovsr_gpu.export.record import LabelledPicture
from ovsr_gpu.stages.vocabulary import SOMETHING_ELSE


class LineFile:
    """A file of JSON lines that reaches the disk group by group, each group whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def append(self, contents: Sequence[Any]) -> None:
        lines = memoryview(b"".join(map(json_line, contents)))
        start = self._file.tell()
        try:
            while lines:  # an unbuffered write may take a part only
                lines = lines[self._file.write(lines) :]
        except OSError:
            self._file.truncate(start)
            raise

    def close(self) -> None:
        self._file.close()


class JsonlWriter:
    """`regions.jsonl`: one line a region; those of a picture stand together in the order of their numbers."""

    ordered = True

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        self._names = [*classes, SOMETHING_ELSE]
        self._lines = LineFile(out / "regions.jsonl")

    def write(self, record: LabelledPicture) -> None:
        self._lines.append([self._describe(record, region) for region in range(len(record.areas))])

    def close(self) -> None:
        self._lines.close()

    def _describe(self, record: LabelledPicture, region: int) -> dict[str, Any]:
        index = int(record.class_index[region])
        return {
            "picture": record.picture.name,
            "file": str(record.picture.path),
            "region": region,
            "box": record.boxes[region].tolist(),
            "area": int(record.areas[region]),
            "class": self._names[index],
            "class_index": index,
            "score": round(float(record.scores[region]), 6),
            "probabilities": [round(p, 6) for p in record.probabilities[region].tolist()],
            "rle": _encode(record.region_map == region),
        }


def _encode(inside: np.ndarray[Any, Any]) -> dict[str, Any]:
    """COCO's compressed run lengths of a `[H, W]` bool mask."""
    rle = mask.encode(np.asfortranarray(inside, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
