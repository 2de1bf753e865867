"""Conversion to other packages, against plain loops over the region map."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from ovsr_gpu import LabelledRegions, Prediction
from ovsr_gpu.interop import to_coco, to_supervision, to_transformers

CLASSES = ("dog", "grass, lawn", "犬")
NAMES = [*CLASSES, "something else"]


def make_prediction(sizes: list[tuple[int, int]], empty_slots: int = 0) -> Prediction:
    """Make images of random regions, measured by plain loops; the last slots are empty."""
    random = np.random.default_rng(3)
    region_maps, rows = [], []
    for image, (height, width) in enumerate(sizes):
        numbers = np.unique(random.integers(0, 7, (height, width)), return_inverse=True)[1].reshape(height, width)
        for region in range(numbers.max() + 1):
            pixels = [(x, y) for y in range(height) for x in range(width) if numbers[y, x] == region]
            xs, ys = zip(*pixels, strict=True)
            rows.append((image, (min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(pixels)))
        region_maps.append(torch.from_numpy(numbers.astype(np.int32)))
    rows += [(len(sizes) - 1, (0, 0, 1, 1), 0)] * empty_slots
    image_index, boxes, areas = (torch.tensor(column) for column in zip(*rows, strict=True))
    probabilities = torch.from_numpy(random.dirichlet(np.ones(4), len(rows)).astype(np.float32))
    score, class_index = probabilities.max(1)
    regions = LabelledRegions(image_index, boxes, areas, class_index, score, probabilities, probabilities)
    same = len(set(sizes)) == 1
    return Prediction(
        torch.stack(region_maps) if same else region_maps,
        regions,
        torch.zeros(len(sizes), 1),
        torch.full((len(sizes),), 7),
        region_maps,  # no conversion reads the class map
        CLASSES,
    )


PREDICTIONS = {
    "one tensor": make_prediction([(9, 12)] * 3),
    "a list": make_prediction([(5, 14), (1, 1), (11, 8)]),
    "empty slots": make_prediction([(6, 7), (8, 3)], empty_slots=4),
}
IMAGES = [(prediction, index) for prediction in PREDICTIONS.values() for index in range(len(prediction.region_map))]
every_image = pytest.mark.parametrize(("prediction", "index"), IMAGES)


def regions_of(prediction: Prediction, index: int) -> list[dict[str, Any]]:
    """Return the regions of one image, measured by plain loops, with their predictions."""
    rows = prediction.region_map[index].tolist()
    first = sum(
        len({number for row in earlier.tolist() for number in row}) for earlier in prediction.region_map[:index]
    )
    found = []
    for region in range(max(map(max, rows)) + 1):
        inside = [[number == region for number in row] for row in rows]
        pixels = [(x, y) for y, row in enumerate(inside) for x, is_inside in enumerate(row) if is_inside]
        xs, ys = zip(*pixels, strict=True)
        found.append(
            {
                "inside": inside,
                "box": [min(xs), min(ys), max(xs) + 1, max(ys) + 1],
                "area": len(pixels),
                "class": int(prediction.regions.class_index[first + region]),
                "score": float(prediction.regions.score[first + region]),
            }
        )
    return found


@every_image
def test_supervision(prediction: Prediction, index: int):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    detections = to_supervision(prediction, index)
    expected = regions_of(prediction, index)
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.dtype == np.float32
    assert detections.xyxy.tolist() == [region["box"] for region in expected]
    assert detections.mask.dtype == bool
    assert detections.mask.tolist() == [region["inside"] for region in expected]
    assert detections.class_id.tolist() == [region["class"] for region in expected]
    assert detections.confidence.tolist() == [region["score"] for region in expected]
    assert detections["class_name"].tolist() == [NAMES[region["class"]] for region in expected]
    assert detections.area.tolist() == [region["area"] for region in expected]
    assert prediction.to_supervision(index) == detections


def test_supervision_can_filter_merge_and_draw_them():
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    detections = to_supervision(PREDICTIONS["one tensor"], 1)
    large = detections[detections.area > 15]
    assert 0 < len(large) < len(detections)
    assert large["class_name"].tolist() == [NAMES[index] for index in large.class_id]
    merged = supervision.Detections.merge([detections, to_supervision(PREDICTIONS["one tensor"], 2)])
    assert len(merged) == len(detections) + len(to_supervision(PREDICTIONS["one tensor"], 2))
    scene = np.zeros((9, 12, 3), np.uint8)
    painted = supervision.MaskAnnotator(opacity=1).annotate(scene, detections)
    assert (painted.sum(2) > 0).all(), "the regions cover the image"


def test_supervision_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        to_supervision(PREDICTIONS["a list"], 0)


@every_image
def test_coco(prediction: Prediction, index: int):
    annotations = to_coco(prediction, index, image_id=41)
    expected = regions_of(prediction, index)
    height, width = prediction.region_map[index].shape
    assert prediction.to_coco(index, 41) == annotations
    coco = read_coco(
        {
            "images": [{"id": 41, "height": height, "width": width}],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
        }
    )
    for annotation, region in zip(coco.loadAnns(coco.getAnnIds(imgIds=41)), expected, strict=True):
        x0, y0, x1, y1 = region["box"]
        assert coco.annToMask(annotation).astype(bool).tolist() == region["inside"]
        assert annotation["segmentation"]["size"] == [height, width]
        assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert annotation["area"] == region["area"]
        assert annotation["category_id"] == region["class"] + 1
        assert annotation["score"] == round(region["score"], 6)
        assert annotation["iscrowd"] == 0


def read_coco(content: dict[str, Any]) -> COCO:
    """Return what pycocotools reads from this content after a round trip through JSON."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(content))
        coco.createIndex()
    return coco


@every_image
def test_transformers(prediction: Prediction, index: int):
    found = to_transformers(prediction, index)
    for entry, region in zip(found, regions_of(prediction, index), strict=True):
        assert entry.keys() == {"score", "label", "mask"}
        assert (entry["score"], entry["label"]) == (region["score"], NAMES[region["class"]])
        assert entry["mask"].mode == "L"
        assert np.asarray(entry["mask"]).tolist() == [
            [255 * is_inside for is_inside in row] for row in region["inside"]
        ]
    assert [entry["mask"].tobytes() for entry in prediction.to_transformers(index)] == [
        entry["mask"].tobytes() for entry in found
    ]


@pytest.mark.parametrize("index", [-1, 3])
def test_no_such_image(index):
    with pytest.raises(IndexError, match=f"no image {index} in a batch of 3"):
        to_transformers(PREDICTIONS["a list"], index)
    with pytest.raises(IndexError):
        to_coco(PREDICTIONS["one tensor"], index, 1)


def test_importing_is_light():
    program = (
        "import sys, ovsr_gpu.interop; print([name for name in ('supervision', 'open_clip') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"
