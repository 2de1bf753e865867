"""How well a segmenter knows the synthetic world: the figures of the model card.

python -m ovsr_gpu.embedded.evaluate
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ovsr_gpu.config import Config
from ovsr_gpu.embedded.networks import EMBEDDED
from ovsr_gpu.embedded.scenes import CLASSES, COMBINATIONS, TEST_SEEDS, UNSEEN_COMBINATIONS, Scene, make_scene
from ovsr_gpu.embedded.shapes import SHAPES
from ovsr_gpu.embedded.surfaces import GROUNDS
from ovsr_gpu.evaluation import confusion_counts, hungarian_miou, labelled_iou
from ovsr_gpu.pipeline import Segmenter
from ovsr_gpu.structures import Prediction

THIRDS = tuple(tuple(SHAPES)[start::3] for start in range(3))
BATCH = 8


@dataclass(frozen=True)
class SceneScores:
    """labelled_miou, hungarian_miou: with the vocabulary CLASSES, see `ovsr_gpu.evaluation`.

    unknown_rejected, known_rejected: shares of the regions called "something else", with a third of the shapes left out
    of the vocabulary, among the regions of those shapes and among the others, over all three thirds.
    unseen_named, seen_named: shares of the objects of which most pixels are given the right colour and shape, with all
    COMBINATIONS as vocabulary, among UNSEEN_COMBINATIONS and among the others.
    """

    labelled_miou: float
    hungarian_miou: float
    unknown_rejected: float
    known_rejected: float
    unseen_named: float
    seen_named: float


def score_scenes(segmenter: Segmenter, scenes: Sequence[Scene]) -> SceneScores:
    """All figures on the scenes."""
    hungarian = []
    counts = np.zeros((len(CLASSES), len(CLASSES) + 1), np.int64)
    rejected: dict[bool, list[bool]] = {True: [], False: []}
    named: dict[bool, list[bool]] = {True: [], False: []}
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in part])).permute(0, 3, 1, 2).contiguous()
        segmentation = segmenter.segment(pixels)
        prediction = segmenter.recognize(pixels, segmentation, CLASSES)
        for scene, regions, classes in zip(part, *_maps(prediction), strict=True):
            hungarian.append(hungarian_miou(regions, scene.labels))
            counts += confusion_counts(scene.labels, classes, *counts.shape)
        for third in THIRDS:
            known = [name for name in CLASSES if name not in third]
            prediction = segmenter.recognize(pixels, segmentation, known)
            for shape, class_index in _region_classes(part, prediction):
                rejected[shape in third].append(class_index == len(known))
        prediction = segmenter.recognize(pixels, segmentation, [*map(" ".join, COMBINATIONS), *GROUNDS])
        for scene, classes in zip(part, _maps(prediction)[1], strict=True):
            for owner, thing in enumerate(scene.objects, 1):
                pair = (thing.colour, thing.shape)
                found = np.bincount(classes[scene.owners == owner]).argmax()
                named[pair in UNSEEN_COMBINATIONS].append(found == COMBINATIONS.index(pair))
    return SceneScores(
        labelled_miou=float(np.nanmean(labelled_iou(counts))),
        hungarian_miou=float(np.mean(hungarian)),
        unknown_rejected=float(np.mean(rejected[True])),
        known_rejected=float(np.mean(rejected[False])),
        unseen_named=float(np.mean(named[True])),
        seen_named=float(np.mean(named[False])),
    )


def _maps(prediction: Prediction) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Region maps and class maps `[B, H, W]` of pictures that came as one tensor."""
    return torch.stack(list(prediction.region_map)).cpu().numpy(), torch.stack(list(prediction.class_map)).cpu().numpy()


def _region_classes(scenes: Sequence[Scene], prediction: Prediction) -> Iterator[tuple[str, int]]:
    """The true shape or ground of each region, and the class that it was given."""
    class_index = iter(prediction.regions.class_index.tolist())
    counts = prediction.regions.counts(len(scenes)).tolist()
    for scene, region_map, count in zip(scenes, _maps(prediction)[0], counts, strict=True):
        for thing, _ in scene.contents(region_map, count):
            yield thing.shape, next(class_index)


def score_embedded(config: Config, scenes: int, device: str) -> SceneScores:
    """The figures of the embedded models on the first test scenes."""
    segmenter = Segmenter.from_pretrained(config, backbone_weights=EMBEDDED, clip=EMBEDDED, device=device)
    return score_scenes(segmenter, [make_scene(seed) for seed in TEST_SEEDS[:scenes]])


def main(scenes: int = len(TEST_SEEDS), device: str = "auto") -> None:
    """Print the figures of the default configuration as JSON."""
    scores = score_embedded(Config(), scenes, device)
    typer.echo(json.dumps({name: round(score, 4) for name, score in asdict(scores).items()}, indent=2))


if __name__ == "__main__":
    typer.run(main)
