"""Label Studio: its SDK, where installed, reads the masks and validates the predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

from ovsr_gpu.export import label_studio
from ovsr_gpu.export.formats import export_run
from ovsr_gpu.export.label_studio import brush_rle
from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.sources.files import ImageSource
from ovsr_gpu.store.record import LabelledImage
from stores import store_of

CLASSES = ("dog", 'grass & <"lawn">', "it's 犬, #1")
NAMES = ("a", "a/b c", 'it\'s "50%" & <b> {c}', "犬/é?d=#1")


@pytest.fixture
def records(tmp_path: Path, record: Callable[..., LabelledImage]) -> list[LabelledImage]:
    """Images with difficult names in the run `tmp_path / "run"`; the last one is from a URL."""
    made = [
        replace(
            record(name, 20 + seed, 37 - seed, len(CLASSES), seed), source=ImageSource(tmp_path / f"{name}.jpg", name)
        )
        for seed, name in enumerate(NAMES)
    ]
    made.append(replace(record("u", 9, 8, len(CLASSES)), source=ImageSource("https://example.org/u.jpg?a=1&b=2", "u")))
    write_json(tmp_path / "run" / "run.json", {"vocabulary": {"names": CLASSES}})
    store_of(tmp_path / "run", *made)
    return made


def masks() -> list[np.ndarray]:
    """Masks of 1x1 to 300x400 pixels, also empty and full ones, with short and long runs."""
    random = np.random.default_rng(0)
    noise = [
        random.random(random.integers(1, 40, 2)) < fraction for fraction in (0, 0.05, 0.5, 0.95, 1) for _ in range(8)
    ]
    stripes = [np.repeat(random.random((300, 2)) < 0.5, width, axis=1) for width in (1, 2, 5, 64, 65, 200)]
    return [*noise, *stripes, np.zeros((1, 1), bool), np.ones((300, 400), bool), np.eye(300, 400) > 0]


def unpacked(rle: list[int], height: int, width: int) -> np.ndarray:
    """The `[H, W, 4]` values, read bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    place = 0

    def read(size: int) -> int:
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    count, word, sizes = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        assert read(1)
        length = 1 + read(sizes[read(2)])
        values += [read(word)] * length
    assert len(bits) - place < 8 and len(values) == count
    return np.array(values).reshape(height, width, 4)


def tasks_in(out: Path) -> list[dict[str, Any]]:
    return [task for path in sorted(out.glob("tasks-*.json")) for task in json.loads(path.read_text("utf-8"))]


@pytest.mark.parametrize("inside", masks(), ids=lambda inside: "x".join(map(str, inside.shape)))
def test_masks_become_runs_of_rgba(inside: np.ndarray) -> None:
    assert np.array_equal(unpacked(brush_rle(inside), *inside.shape), 255 * np.repeat(inside[..., None], 4, axis=2))


@pytest.mark.parametrize("inside", masks(), ids=lambda inside: "x".join(map(str, inside.shape)))
def test_label_studio_reads_the_masks(inside: np.ndarray) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    values = brush.decode_rle(brush_rle(inside))
    assert np.array_equal(values.reshape(*inside.shape, 4)[..., 3] > 0, inside)
    by_sdk = brush.mask2rle(inside.astype(np.uint8) * 255)
    assert by_sdk[: len(brush_rle(inside))] == brush_rle(inside)  # it may append a zero byte


def test_tasks(tmp_path: Path, records: list[LabelledImage]) -> None:
    export_run(tmp_path / "run", "label-studio", tmp_path / "out")
    tasks = tasks_in(tmp_path / "out")
    assert tasks[-1]["data"] == {"image": "https://example.org/u.jpg?a=1&b=2"}
    for task, record in zip(tasks, records, strict=True):
        address = urlsplit(task["data"]["image"])
        if not address.scheme:
            assert address.path == "/data/local-files/" and not address.fragment
            [inside_root] = parse_qs(address.query)["d"]
            assert Path(tmp_path.anchor, inside_root) == record.source.path
        [prediction] = task["predictions"]
        assert prediction["score"] == pytest.approx(record.scores.min(), abs=1e-6)
        assert len(prediction["result"]) == len({result["id"] for result in prediction["result"]}) == len(record.areas)
        for region, result in enumerate(prediction["result"]):
            height, width = result["original_height"], result["original_width"]
            inside = unpacked(result["value"]["rle"], height, width)[..., 3] > 0
            assert np.array_equal(inside, record.region_map == region)
            assert result["value"]["brushlabels"] == [[*CLASSES, "something else"][record.class_index[region]]]
            assert result["score"] == pytest.approx(record.scores[region], abs=1e-6)


def test_interface(tmp_path: Path, records: list[LabelledImage]) -> None:
    export_run(tmp_path / "run", "label-studio", tmp_path / "out")
    labels = ElementTree.parse(tmp_path / "out" / "interface.xml").findall("BrushLabels/Label")
    assert [label.get("value") for label in labels] == [*CLASSES, "something else"]
    assert [label.get("background") for label in labels[::3]] == ["#f0783c", "#404040"]


def test_label_studio_validates_interface_and_predictions(tmp_path: Path, records: list[LabelledImage]) -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    export_run(tmp_path / "run", "label-studio", tmp_path / "out")
    interface = sdk.LabelInterface((tmp_path / "out" / "interface.xml").read_text("utf-8"))
    interface.validate()
    for task in tasks_in(tmp_path / "out"):
        [prediction] = task["predictions"]
        assert interface.validate_prediction(prediction, return_errors=True) == []


def test_tasks_are_split_into_files(
    tmp_path: Path, records: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    export_run(tmp_path / "run", "label-studio", tmp_path / "one")
    monkeypatch.setattr(label_studio, "MAX_FILE_BYTES", 1 + len(json.dumps(tasks_in(tmp_path / "one")[0])))
    export_run(tmp_path / "run", "label-studio", tmp_path / "more")
    assert len(list((tmp_path / "one").iterdir())) == 2 < len(list((tmp_path / "more").iterdir()))
    assert tasks_in(tmp_path / "one") == tasks_in(tmp_path / "more")
