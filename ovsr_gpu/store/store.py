"""The store of a run: parquet files of regions, each of them also a point from which the run can go on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike
from pyarrow import parquet

from ovsr_gpu.runtime.atomic import replacing
from ovsr_gpu.sources.locations import absolute
from ovsr_gpu.store.record import Array, LabelledImage

Row = dict[str, Any]
"""A region, by the columns of `SCHEMA` that were asked for."""

ImageReader = Callable[[Sequence[str]], Iterator[list[Row]]]
"""What goes through the images of a store, each the list of its regions with the given columns, "image" among them,
from the start whenever it is called; one is in memory at a time."""

FOLDER = "store"
PART_IMAGES = 4096
PART_SECONDS = 60.0
"""A part is written when it has so many images, or is so old: as much as a power cut can cost."""

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
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
"""A row a region; those of an image stand together in the order of their numbers. rle: COCO's compressed counts.
file: an absolute path or a URL, of a tar's member or a video's frame "file::name".
source: how an image is opened that is no file of its own, see `sources.stored`; null for the others."""

ANNOTATION = tuple(name for name in SCHEMA.names if name not in ("probabilities", "embedding"))
"""The columns that annotation formats need; the other two are most of the store."""

REPEATED = ["image", "file", "source", "height", "width", "class_index"]
"""The columns worth a dictionary; embeddings are read four times as fast without."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be labelled; `stage` is "decode" or "segment"."""

    image: str
    path: str
    stage: str
    reason: str


@dataclass(frozen=True)
class LabelledBatch:
    """What became of a batch of images.

    regions: the rows of those that were labelled, see `table_of`; failures: the others.
    waited: seconds that the models' thread waited, see `runs.waits`. decoded_on_device: how many were.
    """

    regions: pa.Table
    failures: list[Failure]
    labelled: int
    waited: dict[str, float]
    decoded_on_device: int

    @property
    def images(self) -> int:
        return self.labelled + len(self.failures)


class StoreWriter:
    """Takes batches in their order and keeps each whole or not at all.

    A run that goes on thus begins with a batch, and its batches are those that it would have had. Parts are written
    beside everything else, by a thread; what goes wrong there is raised by a later call.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((_number(path) for path in _parts(out)), default=-1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ovsr-store")
        self._writing: Future[None] | None = None
        self._begin_part()

    def _begin_part(self) -> None:
        self._part: list[LabelledBatch] = []
        self._start = time.monotonic()

    def add(self, batch: LabelledBatch) -> None:
        """Take a batch, whose other files are complete; now and then those since the last part are written."""
        self._part.append(batch)
        images = sum(batch.images for batch in self._part)
        if images >= PART_IMAGES or time.monotonic() - self._start >= PART_SECONDS:
            self._write_part()

    def close(self) -> None:
        """Write the batches since the last part, and wait until all is on the disk."""
        with self._thread:
            if self._part:
                self._write_part()
            self._wait()

    def _write_part(self) -> None:
        self._wait()
        self._writing = self._thread.submit(_write_part, self._folder / f"part-{self._next:06}.parquet", self._part)
        self._next += 1
        self._begin_part()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _write_part(path: Path, batches: Sequence[LabelledBatch]) -> None:
    """Write a part after everything that was written before is on the disk."""
    failures = json.dumps([asdict(failure) for batch in batches for failure in batch.failures])
    table = pa.concat_tables(batch.regions for batch in batches).replace_schema_metadata({"failures": failures})
    if hasattr(os, "sync"):
        os.sync()
    with replacing(path, durable=True) as file:
        parquet.write_table(table, file, compression="zstd", use_dictionary=REPEATED)


def table_of(records: Sequence[LabelledImage]) -> pa.Table:
    """The rows of finished images, by `SCHEMA`."""
    if not records:
        return SCHEMA.empty_table()
    counts = [len(record.areas) for record in records]
    images = [record.source for record in records]
    sources = [text(json.dumps(image.locator)) if image.locator else None for image in images]
    owner = np.repeat(np.arange(len(records)), counts)
    of_images = (
        [text(image.name) for image in images],
        [text(absolute(image.path)) for image in images],
        sources,
        *np.array([record.region_map.shape for record in records]).T,
    )
    columns = [
        *(pa.array(values).take(pa.array(owner)) for values in of_images),
        pa.array(np.concatenate([np.arange(count) for count in counts])),
        _lists(records, "boxes"),
        *(pa.array(_joined(records, name)) for name in ("areas", "class_index", "scores")),
        _lists(records, "probabilities"),
        pa.array([counts for record in records for counts in record.run_lengths]),
        _lists(records, "embeddings", np.float16),
    ]
    return pa.table([column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def _joined(records: Sequence[LabelledImage], name: str) -> Array:
    return np.concatenate([getattr(record, name) for record in records])


def _lists(records: Sequence[LabelledImage], name: str, dtype: DTypeLike | None = None) -> pa.FixedSizeListArray:
    """A list a region."""
    values = _joined(records, name).astype(dtype, copy=False) if dtype else _joined(records, name)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


class Store:
    """Reads the store of the run in the folder `out`, part by part."""

    def __init__(self, out: Path) -> None:
        self._parts = _parts(out)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The parts, each a table of these `columns` of `SCHEMA`."""
        for path in self._parts:
            yield parquet.read_table(path, columns=columns)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The regions in the order of the images, with these `columns` of `SCHEMA`."""
        for batch in self.batches(columns):
            yield from batch.to_pylist()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The same as Arrow's record batches, each of a few regions."""
        for path in self._parts:
            with parquet.ParquetFile(path) as part:
                yield from part.iter_batches(batch_size=1024, columns=columns)

    def images(self, columns: Sequence[str]) -> Iterator[list[Row]]:
        """The regions, a list an image, see `Images`."""
        for _, rows in groupby(self.rows(columns), key=lambda row: row["image"]):
            yield list(rows)

    def failures(self) -> Iterator[Failure]:
        """The failures in the order in which they came."""
        for path in self._parts:
            metadata = parquet.read_schema(path).metadata
            yield from (Failure(**failure) for failure in json.loads(metadata[b"failures"]))

    def names(self) -> Names:
        """The images that the store has, the failed ones among them."""
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
    """Of the images in a part."""
    table = parquet.read_table(path, columns=["image"])
    failed = json.loads(table.schema.metadata[b"failures"])
    names = [*table["image"].unique().to_pylist(), *(failure["image"] for failure in failed)]
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
