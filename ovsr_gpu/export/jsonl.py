"""Lines of JSON: `regions.jsonl` and files that grow line by line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovsr_gpu.runtime.atomic import json_line, replacing
from ovsr_gpu.store.store import ANNOTATION, ImageReader, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE


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


def write_jsonl(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write `regions.jsonl`, a line a region, in the order of the store."""
    names = [*classes, SOMETHING_ELSE]
    with replacing(out / "regions.jsonl") as file:
        for regions in images([*ANNOTATION, "probabilities"]):
            for row in regions:
                file.write(json_line(_describe(row, names)))


def _describe(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {
        "image": row["image"],
        "file": row["file"],
        "region": row["region"],
        "box": row["box"],
        "area": row["area"],
        "class": names[row["class_index"]],
        "class_index": row["class_index"],
        "score": round(row["score"], 6),
        "probabilities": [round(p, 6) for p in row["probabilities"]],
        "rle": {"size": [row["height"], row["width"]], "counts": row["rle"]},
    }
