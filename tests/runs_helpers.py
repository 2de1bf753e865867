"""Helpers for tests of labelling runs: a fake pipeline, and functions that run it and read the results."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor

from ovsr_gpu.config import Config
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.results import LabelledRegions, Prediction
from ovsr_gpu.runs.run_stats import RunSummary
from ovsr_gpu.runs.session import RunCallbacks, RunOptions, label_images
from ovsr_gpu.runs.worker import Worker
from ovsr_gpu.runtime.environment import versions
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.loading import Decoder
from ovsr_gpu.vocabulary import Vocabulary

RUN_OPTIONS = {field.name for field in fields(RunOptions)}
VOCABULARY = Vocabulary.parse("dog; grass, lawn; sky")


class FakePipeline:
    """Segments an image into its left and right half; a half's class is its first pixel's red value modulo L+1."""

    device = torch.device("cpu")
    config = Config()
    identity: ClassVar = {"weights": "none", "clip_precision": "float32", "device": "cpu"}

    halved = 0

    def halve_batches(self) -> None:
        self.halved += 1

    def __init__(self, before: Callable[[list[Tensor]], None] = lambda images: None) -> None:
        self.before = before
        self.batches: list[int] = []

    def describe(self) -> dict[str, Any]:
        return {"config": asdict(self.config), **self.identity, "versions": versions()}

    def begin(self, batch: ImageBatch, vocabulary: Vocabulary) -> FakePendingPrediction:
        self.batches.append(len(batch))
        images = [
            pixels[:, :height, :width] for pixels, (height, width) in zip(batch.pixels, batch.host_sizes, strict=True)
        ]
        self.before(images)
        return FakePendingPrediction(images, vocabulary)


class FakePendingPrediction(NamedTuple):
    images: list[Tensor]
    vocabulary: Vocabulary

    def finish(self) -> Prediction:
        names = len(self.vocabulary.names) + 1
        rows, region_maps, class_maps = [], [], []
        for number, image in enumerate(self.images):
            _, height, width = image.shape
            halves = [(0, (width + 1) // 2), ((width + 1) // 2, width)][: 1 + (width > 1)]
            region_map = torch.zeros(height, width, dtype=torch.int32)
            class_map = torch.zeros(height, width, dtype=torch.int32)
            for region, (x0, x1) in enumerate(halves):
                kind = int(image[0, 0, x0]) % names
                region_map[:, x0:x1] = region
                class_map[:, x0:x1] = kind
                rows.append((number, (x0, 0, x1, height), height * (x1 - x0), kind))
            region_maps.append(region_map)
            class_maps.append(class_map)
        index, boxes, areas, kinds = (torch.tensor(column) for column in zip(*rows, strict=True))
        probabilities = torch.eye(names)[kinds]
        regions = LabelledRegions(index, boxes, areas, kinds, torch.ones(len(kinds)), probabilities, probabilities)
        count = torch.full((len(self.images),), 2)
        singular_values = torch.zeros(len(self.images), 1)
        return Prediction(region_maps, regions, singular_values, count, class_maps, self.vocabulary.names)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def read_coco(out: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(out / "coco.json"))


def read_results(out: Path) -> dict[str, bytes]:
    """The content of all result files of a run, except those that contain times, versions or the store."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix not in (".parquet", ".lock")]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in files
        if path.name not in (".lock", "run.json", "summary.json") and "store" not in path.parts
    }


def assert_complete(out: Path, names: list[str]) -> None:
    """Check that all outputs are valid, agree with each other, and contain exactly these images in this order."""
    by_line = list(dict.fromkeys(line["image"] for line in read_jsonl(out / "regions.jsonl")))
    coco = read_coco(out)
    assert by_line == names == [image["name"] for image in coco.loadImgs(coco.getImgIds())]
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(out / "labels" / f"{image['name']}.png") as labels:
            class_map = np.asarray(labels)
        with Image.open(out / "overlays" / f"{image['name']}.jpg") as overlay:
            overlay.load()
        rebuilt = np.full((image["height"], image["width"]), -1)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            rebuilt[coco.annToMask(annotation).astype(bool)] = annotation["category_id"] - 1
        assert np.array_equal(rebuilt, class_map)


def label(
    pipeline: FakePipeline,
    sources: Sequence[ImageSource],
    vocabulary: Vocabulary,
    out: Path,
    decode: Decoder = decode_image,
    **options: Any,
) -> RunSummary:
    chosen = RunOptions(**{name: value for name, value in options.items() if name in RUN_OPTIONS})
    callbacks = RunCallbacks(**{name: value for name, value in options.items() if name not in RUN_OPTIONS})
    return label_images(Worker(pipeline, vocabulary, decode), sources, out, chosen, callbacks)
