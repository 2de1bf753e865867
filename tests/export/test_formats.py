"""Exported formats, each read back by the rules of the tools that read it."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools import mask
from pycocotools.coco import COCO
from scipy import ndimage

from oracles import encode_masks
from ovsr_gpu.export.formats import FORMATS, export_run
from ovsr_gpu.export.polygons import polygons
from ovsr_gpu.export.voc_masks import voc_colors
from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.sources.files import ImageSource
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.store.schema import Failure
from stores import store_of

Record = Callable[..., LabelledImage]
CLASSES = ("dog", 'grass & <"lawn">', "it's 犬, #1")
NAMES = ("a", "a/b/c", "train/images/x", "images/y.z", 'it\'s "50%" & <b> {c}', "犬/Ünïcode é")
IMAGE_FILES = {"coco-panoptic": "panoptic/*.png", "yolo": "labels/*.txt", "voc": "SegmentationClass/*.png"}


def store_run(run: Path, records: list[LabelledImage], classes: tuple[str, ...] = CLASSES) -> None:
    write_json(run / "run.json", {"vocabulary": {"names": classes}})
    store_of(run, *records, Failure("broken", "in/broken.jpg", "decode", "it is empty"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def records(tmp_path: Path, run: Path, record: Record) -> list[LabelledImage]:
    """Images with difficult names in a stored run; the files of all but the first exist."""
    made = []
    for seed, name in enumerate(NAMES):
        path = tmp_path / "in" / f"{name}.jpg"
        one = record(name, 20 + seed, 37 - seed, len(CLASSES), seed=seed)
        made.append(replace(one, source=ImageSource(path, name)))
        if seed:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(one.pixels).save(path)
    store_run(run, made)
    return made


def filled(polygon: Any, height: int, width: int) -> np.ndarray:
    """The pixels inside a polygon and on its outline, as labelme draws them."""
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).polygon([tuple(point) for point in polygon], outline=1, fill=1)
    return np.asarray(image).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def rows_from(region_map: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for number in range(region_map.max() + 1):
        inside = region_map == number
        rle = mask.encode(np.asfortranarray(inside, dtype=np.uint8))["counts"].decode()
        ys, xs = inside.nonzero()
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        rows.append({"height": region_map.shape[0], "width": region_map.shape[1], "box": box, "rle": rle})
    return rows


def random_maps(smoothness: float, *, connected: bool) -> Iterator[np.ndarray]:
    """Maps of 1x1 to 60x60 pixels; the regions are three levels of smooth noise, or their connected components."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        noise = ndimage.gaussian_filter(random.random(random.integers(1, 61, 2)), smoothness)
        levels = np.digitize(noise, np.quantile(noise, [0.35, 0.65]))
        if connected:
            components = [ndimage.label(levels == level)[0] for level in range(3)]
            levels = levels + 3 * sum(components)
        yield np.unique(levels, return_inverse=True)[1].reshape(levels.shape)


def qualities(region_map: np.ndarray) -> list[tuple[float, float]]:
    """The IoU of each region and its polygon, as drawn by labelme and by pycocotools."""
    height, width = region_map.shape
    found = []
    for number, polygon in enumerate(polygons(rows_from(region_map))):
        inside = region_map == number
        by_coco = mask.decode(mask.merge(mask.frPyObjects([polygon.ravel().tolist()], height, width))).astype(bool)
        assert len(polygon) > 2 and (polygon > 0).all() and (polygon < (width, height)).all()
        assert iou(filled(np.floor(polygon), height, width), inside) == iou(filled(polygon, height, width), inside)
        found.append((iou(filled(polygon, height, width), inside), iou(by_coco, inside)))
    return found


@pytest.mark.parametrize("smoothness", [0, 1.5, 4])
def test_polygons_of_connected_regions_are_exact(smoothness: float) -> None:
    maps = random_maps(smoothness, connected=True)
    drawn, by_coco = np.array([quality for region_map in maps for quality in qualities(region_map)]).T
    assert (by_coco == 1).all()
    assert (drawn == 1).mean() > 0.995 and drawn.min() > 0.99  # a seam that crosses a hole


def test_polygons_of_scattered_regions_lose_what_their_seams_cross() -> None:
    maps = random_maps(1.5, connected=False)
    drawn, by_coco = np.array([quality for region_map in maps for quality in qualities(region_map)]).T
    assert (by_coco == 1).all()
    assert drawn.mean() > 0.9 and drawn.min() > 0.8


def test_holes_and_single_pixels_have_polygons() -> None:
    region_map = np.zeros((9, 12), int)
    region_map[2:7, 2:7], region_map[4, 4], region_map[8, 11], region_map[4, 9:11] = 1, 2, 3, 4
    assert qualities(region_map) == [(1, 1)] * 5


def test_regions_are_painted_with_their_values() -> None:
    region_map = np.array([[0, 0, 1], [2, 0, 1]])
    assert np.array_equal(paint_regions(rows_from(region_map), [7, 0, 300]), [[7, 7, 0], [300, 7, 0]])


def test_coco(tmp_path: Path, run: Path, records: list[LabelledImage]) -> None:
    export_run(run, "coco", tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "out" / "coco.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [*CLASSES, "something else"]
    for image, record in zip(coco.loadImgs(coco.getImgIds()), records, strict=True):
        rebuilt = np.full(record.class_map.shape, -1)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            rebuilt[coco.annToMask(annotation).astype(bool)] = annotation["category_id"] - 1
        assert image["name"] == record.source.name and np.array_equal(rebuilt, record.class_map)


def test_coco_panoptic(tmp_path: Path, run: Path, records: list[LabelledImage]) -> None:
    """By the rules that panopticapi's evaluation checks; the PNGs are in a folder with the name of the JSON."""
    export_run(run, "coco-panoptic", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text("utf-8"))
    categories = {category["id"]: category for category in content["categories"]}
    assert [category["name"] for category in categories.values()] == [*CLASSES, "something else"]
    assert all(category["isthing"] == 1 for category in categories.values())
    images = {image["id"]: image for image in content["images"]}
    assert len(images) == len(content["annotations"]) == len(records)
    for annotation, record in zip(content["annotations"], records, strict=True):
        image = images[annotation["image_id"]]
        assert image["file_name"] == f"{record.source.name}.jpg" and image["path"] == str(record.source.path)
        with Image.open(tmp_path / "out" / "panoptic" / annotation["file_name"]) as png:
            assert png.mode == "RGB" and png.size == (image["width"], image["height"])
            ids = np.asarray(png).astype(np.int64) @ (1, 256, 256**2)
        assert np.array_equal(ids, record.region_map + 1)
        segments = annotation["segments_info"]
        assert sorted(segment["id"] for segment in segments) == np.unique(ids).tolist()
        for segment in segments:
            region = segment["id"] - 1
            box = mask.toBbox(mask.encode(np.asfortranarray(ids == segment["id"], dtype=np.uint8)))
            assert segment["bbox"] == box.tolist() and segment["area"] == (ids == segment["id"]).sum()
            assert segment["category_id"] == record.class_index[region] + 1 and segment["iscrowd"] == 0
            assert segment["category_id"] in categories


def test_panoptic_colors_encode_many_regions(tmp_path: Path, run: Path, record: Record) -> None:
    region_map = np.arange(20 * 30).reshape(20, 30)
    columns = {"boxes": np.zeros((600, 4), int), "areas": np.ones(600, int), "class_index": np.zeros(600, int)}
    columns |= {"scores": np.ones(600), "probabilities": np.ones((600, 4)), "embeddings": np.ones((600, 2))}
    one = replace(record("a", 20, 30, 3), region_map=region_map, run_lengths=encode_masks(region_map), **columns)
    store_run(run, [one])
    export_run(run, "coco-panoptic", tmp_path / "out")
    with Image.open(tmp_path / "out" / "panoptic" / "a.png") as png:
        assert np.array_equal(np.asarray(png).astype(np.int64) @ (1, 256, 256**2), region_map + 1)
    with pytest.raises(ValueError, match="at most 254 objects per image, and 'a' has 600"):
        export_run(run, "voc", tmp_path / "voc")


def test_yolo(tmp_path: Path, run: Path, records: list[LabelledImage]) -> None:
    """By the rules of Ultralytics' loader: where it looks for labels, what it accepts, and how it draws polygons."""
    out = tmp_path / "out"
    export_run(run, "yolo", out)
    data = yaml.safe_load((out / "data.yaml").read_text("utf-8"))
    assert data == {"train": "images", "val": "images", "names": dict(enumerate(CLASSES))}
    images = list((out / "images").rglob("*.jpg"))
    assert len(images) == len(records) - 1 and not (out / "images" / "a.jpg").exists()
    for record in records[1:]:
        image = out / "images" / f"{record.source.name}.jpg"
        assert image in images and os.readlink(image) == str(record.source.path)
    for record in records:
        image = str(out / "images" / f"{record.source.name}.jpg")
        label = Path("/labels/".join(image.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")
        lines = [line.split() for line in label.read_text("ascii").splitlines()]
        known = [region for region, index in enumerate(record.class_index) if index < len(CLASSES)]
        assert [int(line[0]) for line in lines] == record.class_index[known].tolist()
        height, width = record.region_map.shape
        for line, region in zip(lines, known, strict=True):
            points = np.array(line[1:], np.float32).reshape(-1, 2)
            assert len(points) > 2 and points.min() >= 0 and points.max() <= 1
            drawn = filled((points * (width, height)).astype(np.int32), height, width)
            assert np.array_equal(drawn, record.region_map == region)


def test_voc(tmp_path: Path, run: Path, records: list[LabelledImage]) -> None:
    out = tmp_path / "out"
    export_run(run, "voc", out)
    assert (out / "ImageSets" / "Segmentation" / "default.txt").read_text("utf-8").splitlines() == list(NAMES)
    lines = (out / "labelmap.txt").read_text("utf-8").splitlines()
    fields = [line.split(":") for line in lines if not line.startswith("#")]
    colors = {tuple(map(int, color.split(","))): name for name, color, _parts, _actions in fields}
    assert list(colors.values()) == ["background", *CLASSES]
    for record in records:
        known = record.class_map < len(CLASSES)
        images = []
        for folder in ("SegmentationClass", "SegmentationObject"):
            with Image.open(out / folder / f"{record.source.name}.png") as png:
                assert png.mode == "P" and np.array_equal(np.array(png.convert("RGB")), voc_colors()[np.asarray(png)])
                images.append(np.asarray(png))
        classes, objects = images
        assert np.array_equal(classes, np.where(known, record.class_map + 1, 0))
        for index in np.unique(classes).tolist():
            assert colors[tuple(voc_colors()[index].tolist())] == ["background", *CLASSES][index]
        assert np.array_equal(objects > 0, known)
        assert np.unique(objects[known]).tolist() == list(range(1, objects.max() + 1))
        for region, index in enumerate(record.class_index):
            [number] = np.unique(objects[record.region_map == region])
            assert (number > 0) == (index < len(CLASSES))
            assert not number or np.array_equal(objects == number, record.region_map == region)


def test_the_colors_of_voc() -> None:
    assert voc_colors()[[0, 1, 2, 3, 15, 20, 255]].tolist() == [
        *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]),
    ]
    assert len(np.unique(voc_colors(), axis=0)) == 256


@pytest.mark.parametrize("name", ["a:b", "#1", "background"])
def test_class_names_that_voc_cannot_represent(tmp_path: Path, run: Path, name: str) -> None:
    store_run(run, [], ("dog", name))
    with pytest.raises(ValueError, match="not possible in VOC's label map"):
        export_run(run, "voc", tmp_path / "out")
    store_run(run, [], tuple(f"class {number}" for number in range(255)))
    with pytest.raises(ValueError, match="at most 254 classes; got 255"):
        export_run(run, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a\nb", "#a", " a"])
def test_images_that_voc_cannot_list(tmp_path: Path, run: Path, record: Record, name: str) -> None:
    store_run(run, [record(name, 5, 6, 3)])
    with pytest.raises(ValueError, match="not possible in VOC's image list"):
        export_run(run, "voc", tmp_path / "out")


def test_labelme(tmp_path: Path, run: Path, records: list[LabelledImage]) -> None:
    """By the rules of labelme's label file: the required keys, and a path to the image."""
    export_run(run, "labelme", tmp_path / "out")
    for record in records:
        file = tmp_path / "out" / f"{record.source.name}.json"
        content = json.loads(file.read_text("utf-8"))
        assert file.parent / content["imagePath"] == record.source.path and content["imageData"] is None
        height, width = record.region_map.shape
        assert (content["imageHeight"], content["imageWidth"]) == (height, width)
        assert isinstance(content["version"], str) and content["flags"] == {}
        assert len(content["shapes"]) == len(record.areas)
        for region, shape in enumerate(content["shapes"]):
            assert (shape["shape_type"], shape["group_id"], shape["flags"]) == ("polygon", None, {})
            assert shape["label"] == [*CLASSES, "something else"][record.class_index[region]]
            assert np.array_equal(filled(shape["points"], height, width), record.region_map == region)


@pytest.mark.parametrize("format", FORMATS)
def test_images_are_written_one_by_one(tmp_path: Path, run: Path, record: Record, format: str) -> None:
    store_run(run, [record(str(number), 5, 6, 3, seed=number) for number in range(5)])
    seen = []

    def progress(done: int, total: int | None) -> None:
        seen.append((done, len(list((tmp_path / "out").glob(IMAGE_FILES.get(format, "*.json"))))))
        assert total == 5

    export_run(run, format, tmp_path / "out", progress)
    one_by_one = [(number, number) for number in range(1, 6)]
    nothing_yet, all_there = ([(number, count) for number in range(1, 6)] for count in (0, 5))
    expected = {
        "coco": nothing_yet * 2,
        "coco-panoptic": one_by_one + all_there * 2,
        "label-studio": nothing_yet,
        "webdataset": nothing_yet,  # in one archive
    }
    assert seen == expected.get(format, one_by_one)
    assert not list((tmp_path / "out").rglob("*.ovsr-unfinished"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_without_images(tmp_path: Path, run: Path, format: str) -> None:
    store_run(run, [])
    export_run(run, format, tmp_path / "out")


def test_what_cannot_be_exported(tmp_path: Path, run: Path, records: list[LabelledImage]) -> None:
    with pytest.raises(ValueError, match="unknown format 'cvat'; choose one of coco, coco-panoptic, yolo, voc,"):
        export_run(run, "cvat", tmp_path / "out")
    with pytest.raises(ValueError, match="is not an empty folder"):
        export_run(run, "coco", run)
    with pytest.raises(ValueError, match="is not an empty folder"):
        export_run(run, "coco", run / "run.json")
    with pytest.raises(ValueError, match="is not the folder of a run"):
        export_run(tmp_path / "in", "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    export_run(run, "coco", tmp_path / "out")
