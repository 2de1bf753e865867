"""JSON lines: `regions.jsonl`, and files that are written during a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovsr_gpu.runtime.atomic import atomic_write, json_line
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE


class LineFile:
    """A file of JSON lines. Each group of lines is written completely or not at all.

    Args:
        path: The file; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def append(self, contents: Sequence[Any]) -> None:
        """Write one line for each item.

        Raises:
            OSError: The lines cannot be written; the file is as before.
        """
        lines = memoryview(b"".join(map(json_line, contents)))
        start = self._file.tell()
        try:
            while lines:  # an unbuffered write may write only a part
                lines = lines[self._file.write(lines) :]
        except OSError:
            self._file.truncate(start)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_jsonl(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write `regions.jsonl`: one line per region, in the order of the store.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    names = [*class_names, SOMETHING_ELSE]
    with atomic_write(out / "regions.jsonl") as file:
        for regions in images([*ANNOTATION_COLUMNS, "probabilities"]):
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
