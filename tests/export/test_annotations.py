from __future__ import annotations

import contextlib
import errno
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO

from ovsr_gpu.export.coco_annotations import write_coco
from ovsr_gpu.export.jsonl import LineFile, write_jsonl
from ovsr_gpu.sources.locations import absolute
from ovsr_gpu.store.record import LabelledImage
from stores import store_of

Record = Callable[..., LabelledImage]
CLASSES = ("dog", "grass", "sky")


def write_all(out: Path, records: list[LabelledImage]) -> None:
    store = store_of(out, *records)
    write_coco(store.images, CLASSES, out)
    write_jsonl(store.images, CLASSES, out)


def read_coco(out: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(out / "coco.json"))


def test_lines_agree_with_the_records(tmp_path: Path, record: Record) -> None:
    records = [record("a b", 20, 30, 3, seed=1), record("犬\u2028\n", 7, 5, 3, seed=2), record("one", 1, 1, 3)]
    write_all(tmp_path, records)
    lines = [json.loads(line) for line in (tmp_path / "regions.jsonl").read_text("ascii").splitlines()]
    expected = [(one, region) for one in records for region in range(len(one.areas))]
    assert len(lines) == len(expected)
    for line, (one, region) in zip(lines, expected, strict=True):
        assert (line["image"], line["file"]) == (one.source.name, absolute(one.source.path))
        assert (line["region"], line["box"], line["area"]) == (region, one.boxes[region].tolist(), one.areas[region])
        assert line["class"] == [*CLASSES, "something else"][line["class_index"]]
        assert line["class_index"] == one.class_index[region]
        assert line["score"] == pytest.approx(float(one.scores[region]), abs=1e-6)
        assert line["probabilities"] == pytest.approx(one.probabilities[region].tolist(), abs=1e-6)
        assert all(len(str(p)) <= 8 or p < 1e-4 for p in line["probabilities"])
        assert np.array_equal(mask.decode(line["rle"]), one.region_map == region)


def test_pycocotools_reads_the_annotations(tmp_path: Path, record: Record) -> None:
    records = [record(f"image {seed}", 15 + seed, 25 - seed, 3, seed=seed) for seed in range(4)]
    write_all(tmp_path, records)
    coco = read_coco(tmp_path)
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [*CLASSES, "something else"]
    assert coco.getCatIds() == [1, 2, 3, 4]
    images = coco.loadImgs(coco.getImgIds())
    assert [(i["file_name"], i["path"], i["height"], i["width"]) for i in images] == [
        (f"{one.source.name}.jpg", absolute(one.source.path), *one.region_map.shape) for one in records
    ]
    for image, one in zip(images, records, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(one.areas)
        rebuilt = np.full(one.region_map.shape, -1)
        for region, annotation in enumerate(annotations):
            inside = coco.annToMask(annotation).astype(bool)
            rebuilt[inside] = region
            assert annotation["area"] == inside.sum() and annotation["iscrowd"] == 0
            assert annotation["bbox"] == mask.toBbox(annotation["segmentation"]).tolist()
            assert annotation["category_id"] == one.class_index[region] + 1
        assert np.array_equal(rebuilt, one.region_map)
    assert len(set(coco.getAnnIds())) == sum(len(one.areas) for one in records)


def test_a_run_without_images_gives_valid_files(tmp_path: Path) -> None:
    write_all(tmp_path, [])
    coco = read_coco(tmp_path)
    assert coco.getImgIds() == [] and coco.getAnnIds() == [] and len(coco.getCatIds()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco.json", "regions.jsonl", "store"]


def test_a_failed_append_leaves_whole_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FillingUp(io.BytesIO):
        room = 30

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            part = bytes(data[: self.room])
            self.room -= len(part)
            return super().write(part)

    disk = FillingUp()
    monkeypatch.setattr(Path, "open", lambda *_, **__: disk)
    lines = LineFile(tmp_path / "x.jsonl")
    lines.append([{"a": 1}, {"b": 2}])
    with pytest.raises(OSError, match="No space"):
        lines.append(["long " * 20])
    assert disk.getvalue() == b'{"a":1}\n{"b":2}\n'
