"""Write the store of a run: a run can be resumed after every part on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from ovsr_gpu.runtime.atomic import atomic_write
from ovsr_gpu.store.schema import STORE_FOLDER, LabelledBatch, part_number, part_paths

MAX_PART_IMAGES = 4096
MAX_PART_SECONDS = 60.0
"""A part is written once it has this many images or is this old. A power cut loses at most one part."""

DICTIONARY_COLUMNS = ["image", "file", "source", "height", "width", "class_index"]
"""The columns that are dictionary-encoded. Without a dictionary, embeddings are read four times as fast."""


class StoreWriter:
    """Appends batches to the store of a run.

    A batch is stored completely or not at all, so a resumed run continues with the next batch and has the same batches
    as an uninterrupted run. A background thread writes the parts; its errors are raised by a later call.

    Args:
        out: The run's folder. Existing parts stay; new ones get the next numbers.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / STORE_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._next_part = 1 + max((part_number(path) for path in part_paths(out)), default=-1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ovsr-store")
        self._writing: Future[None] | None = None
        self._begin_part()

    def _begin_part(self) -> None:
        self._part: list[LabelledBatch] = []
        self._start = time.monotonic()

    def add(self, batch: LabelledBatch) -> None:
        """Append a batch; writes a part if enough images or time have accumulated.

        Args:
            batch: The result of a batch. All other files of its images must be complete.

        Raises:
            OSError: An earlier part could not be written.
        """
        self._part.append(batch)
        num_images = sum(batch.num_images for batch in self._part)
        if num_images >= MAX_PART_IMAGES or time.monotonic() - self._start >= MAX_PART_SECONDS:
            self._write_part()

    def close(self) -> None:
        """Write the batches since the last part and wait until everything is on disk.

        Raises:
            OSError: A part could not be written.
        """
        with self._thread:
            if self._part:
                self._write_part()
            self._wait()

    def _write_part(self) -> None:
        self._wait()
        path = self._folder / f"part-{self._next_part:06}.parquet"
        self._writing = self._thread.submit(_write_part, path, self._part)
        self._next_part += 1
        self._begin_part()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _write_part(path: Path, batches: Sequence[LabelledBatch]) -> None:
    """Write a part after everything that was written before it is on disk."""
    failures = json.dumps([asdict(failure) for batch in batches for failure in batch.failures])
    table = pa.concat_tables(batch.regions for batch in batches).replace_schema_metadata({"failures": failures})
    if hasattr(os, "sync"):
        os.sync()
    with atomic_write(path, durable=True) as file:
        parquet.write_table(table, file, compression="zstd", use_dictionary=DICTIONARY_COLUMNS)
