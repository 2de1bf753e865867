from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ovsr_gpu.export.images_csv import write_images_csv
from ovsr_gpu.sources.locations import absolute
from ovsr_gpu.store.record import LabelledImage
from stores import store_of

Record = Callable[..., LabelledImage]


def test_one_line_per_image_agrees_with_its_pixels(tmp_path: Path, record: Record) -> None:
    records = [record('a, "b"', 20, 30, 3, seed=1), record("犬\n", 7, 5, 3, seed=2), record("one", 1, 1, 3)]
    store = store_of(tmp_path, *records)
    write_images_csv(store.images, ("dog", "grass", "sky"), tmp_path)
    with (tmp_path / "images.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line, one in zip(lines, records, strict=True):
        assert (line["image"], line["file"]) == (one.source.name, absolute(one.source.path))
        assert int(line["regions"]) == len(one.areas)
        assert float(line["uncertainty"]) == pytest.approx(1 - one.scores[one.region_map].mean(dtype=float), abs=1e-5)
        assert float(line["something_else"]) == pytest.approx(np.mean(one.class_index[one.region_map] == 3), abs=1e-5)


def test_a_run_without_images_gives_the_header(tmp_path: Path) -> None:
    write_images_csv(store_of(tmp_path).images, ("dog",), tmp_path)
    assert (tmp_path / "images.csv").read_text() == "image,file,regions,uncertainty,something_else\n"
