"""Scores by image against loops, and the page of an evaluation, with a segmenter that reads labels from the pixels."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from statistics import mean
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from ovsr_gpu import Config
from ovsr_gpu.datasets import Dataset, open_dataset
from ovsr_gpu.drawing.palette import SOMETHING_ELSE_COLOR, class_colors
from ovsr_gpu.evaluation.image_scores import ImageScores, best_and_worst
from ovsr_gpu.evaluation.plot import class_plot
from ovsr_gpu.evaluation.report_page import write_page
from ovsr_gpu.evaluation.runner import evaluate
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.results import LabelledRegions, Prediction
from ovsr_gpu.vocabulary import Vocabulary

NAMES = ("<script>alert(1)</script>", "cat & dog", "sky", "star")
VOID = 255
Maps = dict[str, tuple[np.ndarray, np.ndarray]]
"""Predicted and target class map by the name of the image."""


class PixelReader:
    """A segmenter whose class map is the red channel; even and odd columns of a class are two regions.

    The score is 0.1 for the first class, 0.2 for the second and so on.
    """

    device = torch.device("cpu")
    config = Config()

    def __call__(self, images: Any, vocabulary: Vocabulary) -> Prediction:
        batch = ImageBatch.of(images, self.device)
        image_index, class_index, areas, region_maps, class_maps = [], [], [], [], []
        for number, (height, width) in enumerate(batch.sizes.tolist()):
            class_map = batch.pixels[number, 0, :height, :width].int()
            labels = 2 * class_map + torch.arange(width) % 2
            present, region_map, counts = labels.unique(return_inverse=True, return_counts=True)
            image_index += [number] * len(present)
            class_index += (present // 2).tolist()
            areas += counts.tolist()
            region_maps.append(region_map.int())
            class_maps.append(class_map)
        regions = LabelledRegions(
            image_index=torch.tensor(image_index),
            boxes=torch.zeros(len(image_index), 4, dtype=torch.int64),
            areas=torch.tensor(areas),
            class_index=torch.tensor(class_index),
            score=(torch.tensor(class_index) + 1) / 10,
            probabilities=torch.full((len(image_index), len(vocabulary) + 1), 0.1),
            embeddings=torch.zeros(len(image_index), 1),
        )
        values, clusters = torch.zeros(len(batch), 1), torch.zeros(len(batch), dtype=torch.int64)
        return Prediction(region_maps, regions, values, clusters, class_maps, vocabulary.names)


SEGMENTER: Any = PixelReader()


@pytest.fixture
def maps() -> Maps:
    """Return random maps of 4 classes and "something else" with 0 to 2 void rows and names like HTML; one is large."""
    random = np.random.default_rng(7)
    made = {}
    for number, name in enumerate(["a&lt;b&gt;", "b&lt;b&gt;", "large"]):
        prediction, target = random.integers(0, 5, (2, 9, 12)) if name != "large" else np.zeros((2, 20, 1280), int)
        target[target == 4] = VOID
        target[:number] = VOID
        made[name] = (prediction, target)
    return made


def write_dataset(root: Path, maps: Maps) -> Dataset:
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for name, (prediction, target) in maps.items():
        Image.fromarray(np.dstack([prediction] * 3).astype(np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(target.astype(np.uint8)).save(root / "labels" / f"{name}.png")
    (root / "classes.txt").write_text("\n".join(NAMES))
    return open_dataset("folder", root)


def scores_by_loops(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float, int, float]:
    pairs = [(int(p), int(t)) for p, t in zip(prediction.ravel(), target.ravel(), strict=True) if t != VOID]
    iou = [
        sum(p == t == label for p, t in pairs) / sum(label in pair for pair in pairs) for label in {t for _, t in pairs}
    ]
    accuracy = mean(float(p == t) for p, t in pairs)
    regions = {(int(label), column % 2) for (_, column), label in np.ndenumerate(prediction)}
    return mean(iou), accuracy, len(regions), mean(1 - (int(p) + 1) / 10 for p in prediction.ravel())


def test_scores_of_each_image(maps: Maps, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, {**maps, "void": (np.ones((5, 4)), np.full((5, 4), VOID))})
    evaluation = evaluate(SEGMENTER, dataset, batch_size=2)
    assert [image.name for image in evaluation.by_image] == [*maps, "void"]
    for image, image_maps in zip(evaluation.by_image, maps.values(), strict=False):
        scores = (image.miou, image.pixel_accuracy, image.regions, image.uncertainty)
        assert scores == pytest.approx(scores_by_loops(*image_maps))
    assert evaluation.by_image[-1] == ImageScores("void", None, None, 2, pytest.approx(0.8))
    assert "by_image" not in evaluation.totals()


def image_scores(**miou: float | None) -> list[ImageScores]:
    return [ImageScores(name, value, value, 1, 0.0) for name, value in miou.items()]


@pytest.mark.parametrize(
    ("images", "best", "worst"),
    [
        (image_scores(a=0.5, b=0.9, c=0.1, d=0.7, e=0.2), "bd", "ce"),
        (image_scores(d=0.5, c=0.5, b=0.5, a=0.5, e=0.5), "ab", "cd"),
        (image_scores(b=0.0, a=0.0, c=1.0), "ca", "b"),
        (image_scores(b=0.0, a=None), "b", ""),
        (image_scores(a=None), "", ""),
        ([], "", ""),
    ],
)
def test_best_and_worst(images: list[ImageScores], best: str, worst: str) -> None:
    selected = best_and_worst(images, 2)
    assert ["".join(image.name for image in part) for part in selected] == [best, worst]


class Page(HTMLParser):
    """The tags, image sources and texts of a page, as a browser parses it."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.images: list[str] = []
        self.text: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.images += [str(value) for name, value in attrs if (tag, name) == ("img", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page(maps: Maps, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, maps)
    images = tmp_path / "scores_files"
    images.mkdir()
    (images / "99-target.png").touch()
    evaluation = evaluate(SEGMENTER, dataset)
    page = Page(write_page(evaluation, dataset, SEGMENTER, (), tmp_path))
    assert not page.tags & {"script", "b"} and set(NAMES) < set(page.text)
    assert [page.text.count(name) for name in maps] == [1, 1, 1]
    expected_files = [*(Path(image).name for image in page.images), "page.css", "scores.css"]
    assert len(expected_files) == 11 and sorted(path.name for path in images.iterdir()) == sorted(expected_files)
    assert [Image.open(path).size for path in sorted(images.glob("*-image.jpg"))].count((640, 10)) == 1

    name = min(evaluation.by_image, key=lambda image: image.miou or 0).name
    class_map, target = maps[name]
    colors = class_colors(len(NAMES))
    valid = target != VOID
    mask = np.asarray(Image.open(images / "0-target.png").convert("RGBA"))
    assert ((mask[..., 3] > 0) == valid).all() and (mask[valid][:, :3] == colors[target[valid]]).all()
    assert (np.asarray(Image.open(images / "0-prediction.png").convert("RGB")) == colors[class_map]).all()

    errors = [(t, p) for t, p in zip(target[valid].tolist(), class_map[valid].tolist(), strict=True) if t != p]
    pair = max(set(errors), key=lambda pair: (errors.count(pair), -pair[1], -pair[0]))
    predicted = [*NAMES, "something else"][pair[1]]
    fraction = 100 * errors.count(pair) / valid.sum()
    assert f"{NAMES[pair[0]]} predicted as {predicted} {fraction:.1f}" in "".join(page.text)


def test_withheld_class_is_shown_as_something_else(maps: Maps, tmp_path: Path) -> None:
    maps = {name: (np.minimum(prediction, 3), target) for name, (prediction, target) in maps.items() if name != "large"}
    dataset = write_dataset(tmp_path, maps)
    evaluation = evaluate(SEGMENTER, dataset, withheld=["sky"])
    page = Page(write_page(evaluation, dataset, SEGMENTER, ["sky"], tmp_path))
    assert any("withheld" in text and "sky" in text for text in page.text)
    name = min(evaluation.by_image, key=lambda image: image.miou or 0).name
    mask = np.asarray(Image.open(tmp_path / "scores_files" / "0-target.png").convert("RGBA"))
    assert ((mask[..., :3] == SOMETHING_ELSE_COLOR).all(-1) == (maps[name][1] == 2))[mask[..., 3] > 0].all()


@pytest.mark.parametrize(("classes", "columns"), [(6, 1), (24, 1), (25, 2), (171, 3)])
def test_plot(classes: int, columns: int) -> None:
    iou = [None, *np.linspace(0, 1, classes - 1).tolist()]
    names = ["a & b", *(f"class {number}" for number in range(1, classes))]
    drawing = ElementTree.fromstring(class_plot(names, iou, ["#123456"] * classes, 0.5))
    groups = [part for part in drawing if part.tag.endswith("}g")]
    rows = [[part.text for part in group if part.tag.endswith("}text")] for group in groups]
    assert rows[:2] == [["a & b", "-"], ["class 1", "0.0"]] and rows[-1] == [f"class {classes - 1}", "100.0"]
    widths = [[float(part.attrib["width"]) for part in group if part.tag.endswith("}rect")] for group in groups]
    assert [bar for _, bar in widths] == pytest.approx([(value or 0) * widths[0][0] for value in iou], abs=0.06)
    positions = [tuple(map(float, group.attrib["transform"][10:-1].split())) for group in groups]
    assert len(set(positions)) == classes and len({x for x, _ in positions}) == columns
    assert all(y < float(drawing.attrib["height"]) for _, y in positions)
