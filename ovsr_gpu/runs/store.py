"""The store of a run: parquet files of regions, each of them also a point from which the run can go on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from ovsr_gpu.export.atomic import replacing
from ovsr_gpu.export.masks import encode_mask
from ovsr_gpu.export.record import Array, LabelledPicture

FOLDER = "store"
PART_PICTURES = 4096
PART_SECONDS = 60.0
"""A part is written when it has so many pictures, or is so old: as much as a power cut can cost."""

SCHEMA = pa.schema(
    [
        ("picture", pa.string()),
        ("file", pa.string()),
        ("source", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("region", pa.int32()),
        ("box", pa.list_(pa.int32(), 4)),
        ("area", pa.int64()),
        ("class_index", pa.int32()),
        ("score", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("rle", pa.string()),
        ("embedding", pa.list_(pa.float16())),
    ]
)
"""A row a region; those of a picture stand together in the order of their numbers. rle: COCO's compressed counts.
source: how a picture is opened that is no file of its own, see `sources.stored`; null for the others."""

ANNOTATION = tuple(name for name in SCHEMA.names if name not in ("probabilities", "embedding"))
"""The columns that annotation formats need; the other two are most of the store."""


@dataclass(frozen=True)
class Failure:
    """A picture that could not be labelled; `stage` is "decode" or "segment"."""

    picture: str
    path: str
    stage: str
    reason: str


Item = list[dict[str, Any]] | Failure


class StoreWriter:
    """Takes pictures and failures in their order, and keeps them batch by batch: a batch whole or not at all.

    A run that goes on thus begins with a batch, and its batches are those that it would have had.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((_number(path) for path in _parts(out)), default=-1)
        self._batch: list[Item] = []
        self._begin_part()

    def _begin_part(self) -> None:
        self._part: list[Item] = []
        self._start = time.monotonic()

    def add(self, item: Item) -> None:
        """Take the rows of a picture, see `rows_of`, or a failure."""
        self._batch.append(item)

    def end_batch(self) -> None:
        """Take what was added as a batch; now and then the batches since then are written."""
        self._part += self._batch
        self._batch = []
        if len(self._part) >= PART_PICTURES or time.monotonic() - self._start >= PART_SECONDS:
            self.close()

    def close(self) -> None:
        """Write the batches since the last part, after everything that was written about them is on the disk."""
        if self._part:
            rows = [row for item in self._part if not isinstance(item, Failure) for row in item]
            failures = json.dumps([asdict(item) for item in self._part if isinstance(item, Failure)])
            table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"failures": failures})
            if hasattr(os, "sync"):
                os.sync()
            with replacing(self._folder / f"part-{self._next:06}.parquet", durable=True) as file:
                parquet.write_table(table, file, compression="zstd")
            self._next += 1
        self._begin_part()


def rows_of(record: LabelledPicture) -> list[dict[str, Any]]:
    """The rows of a finished picture, by `SCHEMA`."""
    height, width = record.region_map.shape
    return [
        {
            "picture": text(record.picture.name),
            "file": text(str(record.picture.path)),
            "source": text(json.dumps(record.picture.source)) if record.picture.source else None,
            "height": height,
            "width": width,
            "region": region,
            "box": record.boxes[region].tolist(),
            "area": int(record.areas[region]),
            "class_index": int(record.class_index[region]),
            "score": float(record.scores[region]),
            "probabilities": record.probabilities[region].tolist(),
            "rle": encode_mask(record.region_map == region),
            "embedding": record.embeddings[region].astype(np.float16),
        }
        for region in range(len(record.areas))
    ]


class Store:
    """Reads the store of the run in the folder `out`, part by part."""

    def __init__(self, out: Path) -> None:
        self._parts = _parts(out)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The regions in the order of the pictures, with all or some `columns` of `SCHEMA`."""
        for path in self._parts:
            with parquet.ParquetFile(path) as part:
                for batch in part.iter_batches(batch_size=1024, columns=columns):
                    yield from batch.to_pylist()

    def pictures(self, columns: Sequence[str] | None = None) -> Iterator[list[dict[str, Any]]]:
        """The regions, a list a picture; `columns` must include "picture"."""
        for _, rows in groupby(self.rows(columns), key=lambda row: row["picture"]):
            yield list(rows)

    def failures(self) -> Iterator[Failure]:
        """The failures in the order in which they came."""
        for path in self._parts:
            metadata = parquet.read_schema(path).metadata
            yield from (Failure(**failure) for failure in json.loads(metadata[b"failures"]))

    def names(self) -> Names:
        """The pictures that the store has, the failed ones among them."""
        found = np.concatenate([np.zeros(0, np.uint64), *map(_hashes, self._parts)])
        return Names(np.unique(found))


@dataclass(frozen=True)
class Names:
    """A set of many names, of which it keeps 64 bits each."""

    hashes: Array

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, name: str) -> bool:
        wanted = _hash(name)
        place = np.searchsorted(self.hashes, wanted)
        return bool(place < len(self.hashes) and self.hashes[place] == wanted)


def _hashes(path: Path) -> Array:
    """Of the pictures in a part."""
    table = parquet.read_table(path, columns=["picture"])
    failed = json.loads(table.schema.metadata[b"failures"])
    names = [*table["picture"].unique().to_pylist(), *(failure["picture"] for failure in failed)]
    return np.array([_hash(name) for name in names], dtype=np.uint64)


def _hash(name: str) -> np.uint64:
    return np.frombuffer(blake2b(text(name).encode(), digest_size=8).digest(), np.uint64)[0]


def text(name: str) -> str:
    """A file name as UTF-8 can have it: bytes that are not become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _parts(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("part-*.parquet"), key=_number)


def _number(part: Path) -> int:
    return int(part.stem.removeprefix("part-"))
