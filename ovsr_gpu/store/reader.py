"""Read the store of a run, part by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import Failure, Row, escape_non_utf8, part_paths

ImageReader = Callable[[Sequence[str]], Iterator[list[Row]]]
"""Yields the images of a store, each as the list of its regions.

The argument names the columns to read; "image" must be among them. Every call starts at the first image. Only one
image is in memory at a time.
"""


class Store:
    """Reads the store of a run.

    Args:
        out: The run's folder. A folder without a store reads as an empty one.

    Example:
        >>> for regions in Store(Path("out")).images(["image", "class_index", "area"]):
        ...     print(regions[0]["image"], len(regions))
    """

    def __init__(self, out: Path) -> None:
        self._parts = part_paths(out)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield each part as a table of the given columns of `SCHEMA`."""
        for path in self._parts:
            yield parquet.read_table(path, columns=columns)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield the regions in the order of the images, with the given columns of `SCHEMA`."""
        for batch in self.record_batches(columns):
            yield from batch.to_pylist()

    def record_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the regions as Arrow record batches of at most 1024 rows, with the given columns of `SCHEMA`."""
        for path in self._parts:
            with parquet.ParquetFile(path) as part:
                yield from part.iter_batches(batch_size=1024, columns=columns)

    def images(self, columns: Sequence[str]) -> Iterator[list[Row]]:
        """Yield the regions of each image; an `ImageReader`.

        Args:
            columns: Columns of `SCHEMA`; "image" must be among them.

        Yields:
            The rows of the regions of one image.
        """
        for _, rows in groupby(self.rows(columns), key=lambda row: row["image"]):
            yield list(rows)

    def failures(self) -> Iterator[Failure]:
        """Yield the failures in the order in which they happened."""
        for path in self._parts:
            metadata = parquet.read_schema(path).metadata
            yield from (Failure(**failure) for failure in json.loads(metadata[b"failures"]))

    def image_names(self) -> NameSet:
        """Return the names of all images in the store, including the failed ones."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *map(_image_name_hashes, self._parts)])
        return NameSet(np.unique(hashes))


@dataclass(frozen=True)
class NameSet:
    """A compact set of names that keeps 64 bits of each.

    Attributes:
        hashes: `[n]` uint64, sorted and unique.
    """

    hashes: Array

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, name: str) -> bool:
        name_hash = _hash(name)
        index = np.searchsorted(self.hashes, name_hash)
        return bool(index < len(self.hashes) and self.hashes[index] == name_hash)


def _image_name_hashes(path: Path) -> Array:
    """Return the hashes of the image names in a part, `[n]` uint64."""
    table = parquet.read_table(path, columns=["image"])
    failures = json.loads(table.schema.metadata[b"failures"])
    names = [*table["image"].unique().to_pylist(), *(failure["image"] for failure in failures)]
    return np.array([_hash(name) for name in names], dtype=np.uint64)


def _hash(name: str) -> np.uint64:
    return np.frombuffer(blake2b(escape_non_utf8(name).encode(), digest_size=8).digest(), np.uint64)[0]
