from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsr_gpu.drawing.palette import NUM_DISTINCT_COLORS, class_colors
from ovsr_gpu.export.image_files import PaletteWriter
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.vocabulary import Vocabulary

Record = Callable[..., LabelledImage]


def vocabulary(count: int) -> Vocabulary:
    return Vocabulary.parse([f"class {number}" for number in range(count)])


@pytest.mark.parametrize(("count", "mode"), [(1, "P"), (3, "P"), (20, "P"), (255, "P"), (256, "I;16"), (1000, "I;16")])
def test_label_maps_read_back_exactly(tmp_path: Path, record: Record, count: int, mode: str) -> None:
    one = record("sub/犬 1", 20, 30, count)
    one.class_map[0, :2] = (count, 0)
    PaletteWriter(tmp_path, vocabulary(count)).write(one)
    with Image.open(tmp_path / "labels" / "sub" / "犬 1.png") as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), one.class_map)
        if mode == "P":
            colors = class_colors(count)
            assert np.array_equal(np.asarray(image.convert("RGB")), colors[one.class_map])


def test_classes_json(tmp_path: Path) -> None:
    PaletteWriter(tmp_path, Vocabulary.parse("dog; grass, lawn; 犬"))
    described = json.loads((tmp_path / "classes.json").read_text("utf-8"))
    assert [(c["index"], c["name"], c["synonyms"]) for c in described["classes"]] == [
        (0, "dog", []),
        (1, "grass", ["lawn"]),
        (2, "犬", []),
    ]
    assert described["something_else"]["index"] == 3
    colors = [c["color"] for c in described["classes"]] + [described["something_else"]["color"]]
    assert colors == class_colors(3).tolist()


def test_colors_are_stable_and_distinct() -> None:
    colors = class_colors(NUM_DISTINCT_COLORS)
    assert len(np.unique(colors, axis=0)) == NUM_DISTINCT_COLORS + 1
    assert np.array_equal(class_colors(7)[:7], colors[:7])
    assert np.array_equal(class_colors(7)[-1], colors[-1])
    # The first two dozen have to be told apart by eye; 40 of 441 in RGB is a coarse stand-in for that.
    first = np.vstack([colors[:24], colors[-1:]]).astype(float)
    apart = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(25)
    assert apart.min() > 40
    assert class_colors(1000).shape == (1001, 3)


def test_too_many_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65535"):
        PaletteWriter(tmp_path, vocabulary(65536))
    assert not list(tmp_path.iterdir())
