"""Scores by image against loops, and the page of an evaluation, with a segmenter that reads labels off the pixels."""

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
"""The class map that is found and the true one, by the name of the image."""


class PixelReader:
    """Takes the red channel of an image for its class map, even and odd columns of a class for two regions.

    The score is a tenth for the first class, two for the second and so on.
    """

    device = torch.device("cpu")
    config = Config()

    def __call__(self, images: Any, vocabulary: Vocabulary) -> Prediction:
        batch = ImageBatch.of(images, self.device)
        image, kind, areas, region_maps, class_maps = [], [], [], [], []
        for number, (height, width) in enumerate(batch.sizes.tolist()):
            class_map = batch.pixels[number, 0, :height, :width].int()
            labels = 2 * class_map + torch.arange(width) % 2
            present, region_map, counts = labels.unique(return_inverse=True, return_counts=True)
            image += [number] * len(present)
            kind += (present // 2).tolist()
            areas += counts.tolist()
            region_maps.append(region_map.int())
            class_maps.append(class_map)
        regions = LabelledRegions(
            image_index=torch.tensor(image),
            boxes=torch.zeros(len(image), 4, dtype=torch.int64),
            areas=torch.tensor(areas),
            class_index=torch.tensor(kind),
            score=(torch.tensor(kind) + 1) / 10,
            probabilities=torch.full((len(image), len(vocabulary) + 1), 0.1),
            embeddings=torch.zeros(len(image), 1),
        )
        values, clusters = torch.zeros(len(batch), 1), torch.zeros(len(batch), dtype=torch.int64)
        return Prediction(region_maps, regions, values, clusters, class_maps, vocabulary.names)


SEGMENTER: Any = PixelReader()


@pytest.fixture
def maps() -> Maps:
    """Random maps of 4 classes and "something else", 0 to 2 rows void; one image is large, names look like HTML."""
    random = np.random.default_rng(7)
    made = {}
    for number, name in enumerate(["a&lt;b&gt;", "b&lt;b&gt;", "large"]):
        found, truth = random.integers(0, 5, (2, 9, 12)) if name != "large" else np.zeros((2, 20, 1280), int)
        truth[truth == 4] = VOID
        truth[:number] = VOID
        made[name] = (found, truth)
    return made


def write_dataset(root: Path, maps: Maps) -> Dataset:
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for name, (found, truth) in maps.items():
        Image.fromarray(np.dstack([found] * 3).astype(np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(truth.astype(np.uint8)).save(root / "labels" / f"{name}.png")
    (root / "classes.txt").write_text("\n".join(NAMES))
    return open_dataset("folder", root)


def by_loops(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, int, float]:
    pairs = [(int(f), int(t)) for f, t in zip(found.ravel(), truth.ravel(), strict=True) if t != VOID]
    iou = [
        sum(f == t == kind for f, t in pairs) / sum(kind in pair for pair in pairs) for kind in {t for _, t in pairs}
    ]
    accuracy = mean(float(f == t) for f, t in pairs)
    regions = {(int(kind), column % 2) for (_, column), kind in np.ndenumerate(found)}
    return mean(iou), accuracy, len(regions), mean(1 - (int(f) + 1) / 10 for f in found.ravel())


def test_scores_of_each_image(maps: Maps, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, {**maps, "void": (np.ones((5, 4)), np.full((5, 4), VOID))})
    found = evaluate(SEGMENTER, dataset, batch_size=2)
    assert [image.name for image in found.by_image] == [*maps, "void"]
    for image, own in zip(found.by_image, maps.values(), strict=False):
        scores = (image.miou, image.pixel_accuracy, image.regions, image.uncertainty)
        assert scores == pytest.approx(by_loops(*own))
    assert found.by_image[-1] == ImageScores("void", None, None, 2, pytest.approx(0.8))
    assert "by_image" not in found.totals()


def scored(**miou: float | None) -> list[ImageScores]:
    return [ImageScores(name, value, value, 1, 0.0) for name, value in miou.items()]


@pytest.mark.parametrize(
    ("images", "best", "worst"),
    [
        (scored(a=0.5, b=0.9, c=0.1, d=0.7, e=0.2), "bd", "ce"),
        (scored(d=0.5, c=0.5, b=0.5, a=0.5, e=0.5), "ab", "cd"),
        (scored(b=0.0, a=0.0, c=1.0), "ca", "b"),
        (scored(b=0.0, a=None), "b", ""),
        (scored(a=None), "", ""),
        ([], "", ""),
    ],
)
def test_best_and_worst(images: list[ImageScores], best: str, worst: str) -> None:
    found = best_and_worst(images, 2)
    assert ["".join(image.name for image in some) for some in found] == [best, worst]


class Page(HTMLParser):
    """What a browser makes of a page: its tags, the sources of its images, its pieces of text."""

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


def test_the_page(maps: Maps, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, maps)
    images = tmp_path / "scores_files"
    images.mkdir()
    (images / "99-truth.png").touch()
    found = evaluate(SEGMENTER, dataset)
    page = Page(write_page(found, dataset, SEGMENTER, (), tmp_path))
    assert not page.tags & {"script", "b"} and set(NAMES) < set(page.text)
    assert [page.text.count(name) for name in maps] == [1, 1, 1]
    used = [*(Path(image).name for image in page.images), "page.css", "scores.css"]
    assert len(used) == 11 and sorted(path.name for path in images.iterdir()) == sorted(used)
    assert [Image.open(path).size for path in sorted(images.glob("*-image.jpg"))].count((640, 10)) == 1

    name = min(found.by_image, key=lambda image: image.miou or 0).name
    class_map, truth = maps[name]
    colors = class_colors(len(NAMES))
    known = truth != VOID
    shown = np.asarray(Image.open(images / "0-truth.png").convert("RGBA"))
    assert ((shown[..., 3] > 0) == known).all() and (shown[known][:, :3] == colors[truth[known]]).all()
    assert (np.asarray(Image.open(images / "0-labels.png").convert("RGB")) == colors[class_map]).all()

    wrong = [(t, f) for t, f in zip(truth[known].tolist(), class_map[known].tolist(), strict=True) if t != f]
    pair = max(set(wrong), key=lambda pair: (wrong.count(pair), -pair[1], -pair[0]))
    taken = [*NAMES, "something else"][pair[1]]
    fraction = 100 * wrong.count(pair) / known.sum()
    assert f"{NAMES[pair[0]]} taken for {taken} {fraction:.1f}" in "".join(page.text)


def test_a_withheld_class_is_shown_as_something_else(maps: Maps, tmp_path: Path) -> None:
    maps = {name: (np.minimum(found, 3), truth) for name, (found, truth) in maps.items() if name != "large"}
    dataset = write_dataset(tmp_path, maps)
    found = evaluate(SEGMENTER, dataset, withheld=["sky"])
    page = Page(write_page(found, dataset, SEGMENTER, ["sky"], tmp_path))
    assert any("withheld" in text and "sky" in text for text in page.text)
    name = min(found.by_image, key=lambda image: image.miou or 0).name
    shown = np.asarray(Image.open(tmp_path / "scores_files" / "0-truth.png").convert("RGBA"))
    assert ((shown[..., :3] == SOMETHING_ELSE_COLOR).all(-1) == (maps[name][1] == 2))[shown[..., 3] > 0].all()


@pytest.mark.parametrize(("classes", "columns"), [(6, 1), (24, 1), (25, 2), (171, 3)])
def test_the_plot(classes: int, columns: int) -> None:
    iou = [None, *np.linspace(0, 1, classes - 1).tolist()]
    names = ["a & b", *(f"class {number}" for number in range(1, classes))]
    drawing = ElementTree.fromstring(class_plot(names, iou, ["#123456"] * classes, 0.5))
    groups = [part for part in drawing if part.tag.endswith("}g")]
    rows = [[part.text for part in group if part.tag.endswith("}text")] for group in groups]
    assert rows[:2] == [["a & b", "-"], ["class 1", "0.0"]] and rows[-1] == [f"class {classes - 1}", "100.0"]
    widths = [[float(part.attrib["width"]) for part in group if part.tag.endswith("}rect")] for group in groups]
    assert [bar for _, bar in widths] == pytest.approx([(value or 0) * widths[0][0] for value in iou], abs=0.06)
    places = [tuple(map(float, group.attrib["transform"][10:-1].split())) for group in groups]
    assert len(set(places)) == classes and len({x for x, _ in places}) == columns
    assert all(y < float(drawing.attrib["height"]) for _, y in places)
