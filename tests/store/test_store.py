"""The store of a run: reading returns what was written, and a part is written completely or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from pycocotools import mask

from ovsr_gpu.sources.locations import absolute
from ovsr_gpu.store import writer as store_writer
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.store.schema import SCHEMA, Failure, escape_non_utf8
from ovsr_gpu.store.writer import StoreWriter
from stores import batch_of, store_of

Record = Callable[..., LabelledImage]


def test_reading_returns_what_was_written(tmp_path: Path, record: Record) -> None:
    records = [record(name, 9 + seed, 12, 3, seed=seed) for seed, name in enumerate(["a", "犬\u2028", "z\udcff"])]
    failures = [Failure("b", "in/b.png", "decode", "it is empty"), Failure("y\udcff", "y", "segment", "no memory")]
    store_of(tmp_path, records[0], failures[0], records[1], failures[1], records[2])
    found = list(Store(tmp_path).images(SCHEMA.names))
    assert [rows[0]["image"] for rows in found] == ["a", "犬\u2028", "z\\udcff"]
    for rows, one in zip(found, records, strict=True):
        assert [row["region"] for row in rows] == list(range(len(one.areas)))
        for row in rows:
            n = row["region"]
            assert (row["height"], row["width"]) == one.region_map.shape
            assert row["file"] == escape_non_utf8(absolute(one.source.path))
            assert row["box"] == one.boxes[n].tolist() and row["area"] == one.areas[n]
            assert row["class_index"] == one.class_index[n] and row["score"] == one.scores[n]
            assert np.array_equal(np.float32(row["probabilities"]), one.probabilities[n])
            assert np.array_equal(np.float16(row["embedding"]), one.embeddings[n].astype(np.float16))
            rle = {"size": [row["height"], row["width"]], "counts": row["rle"]}
            assert np.array_equal(mask.decode(rle), one.region_map == n)
    assert [failure.reason for failure in Store(tmp_path).failures()] == ["it is empty", "no memory"]
    names = Store(tmp_path).image_names()
    assert len(names) == 5 and all(name in names for name in ("a", "b", "犬\u2028", "z\udcff", "y\udcff"))
    assert "c" not in names and "" not in names


def test_parts_follow_each_other_over_sessions(tmp_path: Path, record: Record, monkeypatch) -> None:
    monkeypatch.setattr(store_writer, "MAX_PART_IMAGES", 3)
    records: list[LabelledImage | Failure] = [record(str(number), 4, 5, 2, seed=number) for number in range(11)]
    for start, stop in ((0, 4), (4, 4), (4, 11)):
        store_of(tmp_path, *records[start:stop])
    parts = sorted((tmp_path / "store").iterdir())
    assert [path.name for path in parts] == [f"part-{number:06}.parquet" for number in range(5)]
    sizes = [len(set(parquet.read_table(path)["image"].to_pylist())) for path in parts]
    assert sizes == [3, 1, 3, 3, 1]
    assert [rows[0]["image"] for rows in Store(tmp_path).images(["image"])] == [str(n) for n in range(11)]


def test_an_old_part_is_written(tmp_path: Path, record: Record, monkeypatch) -> None:
    monkeypatch.setattr(store_writer, "MAX_PART_SECONDS", 0)
    writer = StoreWriter(tmp_path)
    writer.add(batch_of(record("a", 3, 3, 2)))
    writer.add(batch_of(record("b", 3, 3, 2)))  # waits for the first part
    assert "a" in Store(tmp_path).image_names()
    writer.close()
    assert len(Store(tmp_path).image_names()) == 2


def test_a_batch_is_kept_whole(tmp_path: Path, record: Record, monkeypatch) -> None:
    monkeypatch.setattr(store_writer, "MAX_PART_IMAGES", 2)
    writer = StoreWriter(tmp_path)
    failure = Failure("c", "c.png", "decode", "broken")
    writer.add(batch_of(record("a", 3, 3, 2), record("b", 4, 3, 2), failure, record("d", 3, 3, 2)))
    writer.add(batch_of(failure))
    writer.close()
    tables = list(Store(tmp_path).tables(["image"]))
    assert [table["image"].unique().to_pylist() for table in tables] == [["a", "b", "d"], []]
    assert list(Store(tmp_path).failures()) == [failure, failure]


def test_a_part_that_cannot_be_written_is_not_there(tmp_path: Path, record: Record, monkeypatch) -> None:
    store_of(tmp_path, record("a", 3, 3, 2))
    writer = StoreWriter(tmp_path)
    writer.add(batch_of(record("b", 3, 3, 2)))

    def fail(table, file, **_) -> None:
        file.write(b"PAR1")
        raise OSError("No space left on device")

    monkeypatch.setattr(store_writer.parquet, "write_table", fail)
    with pytest.raises(OSError, match="No space"):
        writer.close()
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["part-000000.parquet"]
    assert "b" not in Store(tmp_path).image_names()


def test_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert (list(store.rows(["image"])), list(store.failures()), len(store.image_names())) == ([], [], 0)
    store_of(tmp_path)
    assert list((tmp_path / "store").iterdir()) == []
