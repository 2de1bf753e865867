"""Exports read by other tools, where installed: FiftyOne, and datumaro, which CVAT uses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsr_gpu.export.formats import export_run
from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.sources.files import ImageSource
from ovsr_gpu.store.record import LabelledImage
from stores import store_of

CLASSES = ("dog", "grass & <lawn>", "it's 犬")
NAMES = ("a", "b c/d.e", "犬/é")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the images, the working directory of the run."""
    folder = tmp_path / "photos"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def records(
    tmp_path: Path, images: Path, record: Callable[..., LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> dict[str, LabelledImage]:
    """The images of the run `tmp_path / "run"` by name; their files exist. Exports are made in another folder."""
    write_json(tmp_path / "run" / "run.json", {"vocabulary": {"names": CLASSES}})
    made = {}
    for seed, name in enumerate(NAMES):
        path = Path(f"{name}.png")
        path.parent.mkdir(exist_ok=True)
        one = record(name, 20 + seed, 37 - seed, len(CLASSES), seed)
        made[name] = replace(one, source=ImageSource(path, name))
        Image.fromarray(one.pixels).save(path)
    store_of(tmp_path / "run", *made.values())
    monkeypatch.chdir(tmp_path)
    return made


def test_fiftyone_reads_coco(
    tmp_path: Path, images: Path, records: dict[str, LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIFTYONE_DISABLE_SERVICES", "1")  # its importer needs no database
    fiftyone = pytest.importorskip("fiftyone.utils.coco")
    export_run(tmp_path / "run", "coco", tmp_path / "out")
    importer = fiftyone.COCODetectionDatasetImporter(
        data_path=str(images), labels_path=str(tmp_path / "out" / "coco.json"), label_types="segmentations"
    )
    with importer:
        read = {Path(path).relative_to(images): label.detections for path, _, label in importer}
    assert read.keys() == {record.source.path for record in records.values()}
    for record in records.values():
        height, width = record.class_map.shape
        for region, detection in enumerate(read[record.source.path]):
            x0, y0, x1, y1 = record.boxes[region]
            box = np.array(detection.bounding_box) * (width, height, width, height)
            assert box == pytest.approx((x0, y0, x1 - x0, y1 - y0))
            assert np.array_equal(detection.mask, (record.region_map == region)[y0:y1, x0:x1])
            assert detection.label == [*CLASSES, "something else"][record.class_index[region]]
            assert detection.confidence == pytest.approx(record.scores[region], abs=1e-6)


@pytest.mark.parametrize("format", ["coco_instances", "voc_segmentation"])
def test_datumaro_reads_coco_and_voc(
    tmp_path: Path, images: Path, records: dict[str, LabelledImage], format: str
) -> None:
    datumaro = pytest.importorskip("datumaro")
    out = tmp_path / "out"
    if format == "coco_instances":
        export_run(tmp_path / "run", "coco", tmp_path / "coco")
        (out / "annotations").mkdir(parents=True)
        shutil.copy(tmp_path / "coco" / "coco.json", out / "annotations" / "instances_default.json")
        (out / "images").symlink_to(images)
    else:
        export_run(tmp_path / "run", "voc", out)
    read = {item.id: item for item in datumaro.Dataset.import_from(str(out), format)}
    assert read.keys() == records.keys()
    for name, record in records.items():
        masks = [annotation for annotation in read[name].annotations if hasattr(annotation, "image")]
        rebuilt = np.full(record.class_map.shape, len(CLASSES))
        for mask in masks:
            rebuilt[np.asarray(mask.image).astype(bool)] = mask.label - (format == "voc_segmentation")  # background
        assert len(masks) == sum(record.class_index < len(CLASSES) + (format == "coco_instances"))
        assert np.array_equal(rebuilt, record.class_map)
