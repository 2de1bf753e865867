"""How well a segmenter knows the synthetic world: the figures of the model card.

python -m ovsr_gpu.synthetic.scoring
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import typer

from ovsr_gpu.config import Config
from ovsr_gpu.evaluation import ImageHungarian, PixelConfusion
from ovsr_gpu.models.embedded import EMBEDDED
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.synthetic.scenes import CLASSES, COMBINATIONS, TEST_SEEDS, UNSEEN_COMBINATIONS, Scene, make_scene
from ovsr_gpu.synthetic.shapes import SHAPES
from ovsr_gpu.synthetic.surfaces import GROUNDS

THIRDS = tuple(tuple(SHAPES)[start::3] for start in range(3))
BATCH = 8


@dataclass(frozen=True)
class SceneScores:
    """labelled_miou, hungarian_miou: `PixelScores.miou` and `ImageHungarianScores.image_miou`, with the vocabulary
    CLASSES.

    unknown_rejected, known_rejected: fractions of the regions called "something else", with a third of the shapes left out
    of the vocabulary, among the regions of those shapes and among the others, over all three thirds.
    unseen_named, seen_named: fractions of the objects of which most pixels are given the right color and shape, with all
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
    confusion, hungarian = PixelConfusion(len(CLASSES)), ImageHungarian(len(CLASSES))
    rejected: dict[bool, list[bool]] = {True: [], False: []}
    named: dict[bool, list[bool]] = {True: [], False: []}
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        images = [scene.pixels for scene in part]
        segmentation = segmenter.segment(images)
        region_counts = segmentation.regions.counts(len(part)).tolist()
        shapes: list[str] = []  # what each region of the batch truly is
        prediction = segmenter.recognize(images, segmentation, CLASSES)
        for scene, regions, classes, count in zip(
            part, segmentation.region_map, prediction.class_map, region_counts, strict=True
        ):
            truth = torch.from_numpy(scene.labels).to(regions.device)
            confusion.update(classes, truth)
            hungarian.update(regions, truth)
            shapes += [thing.shape for thing, _ in scene.contents(regions.cpu().numpy(), count)]
        for third in THIRDS:
            known = [name for name in CLASSES if name not in third]
            prediction = segmenter.recognize(images, segmentation, known)
            for shape, class_index in zip(shapes, prediction.regions.class_index.tolist(), strict=True):
                rejected[shape in third].append(class_index == len(known))
        prediction = segmenter.recognize(images, segmentation, [*map(" ".join, COMBINATIONS), *GROUNDS])
        for scene, class_map in zip(part, prediction.class_map, strict=True):
            found_classes = class_map.cpu().numpy()
            for owner, thing in enumerate(scene.objects, 1):
                pair = (thing.color, thing.shape)
                found = np.bincount(found_classes[scene.owners == owner]).argmax()
                named[pair in UNSEEN_COMBINATIONS].append(found == COMBINATIONS.index(pair))
    return SceneScores(
        labelled_miou=confusion.result().miou,
        hungarian_miou=hungarian.result().image_miou,
        unknown_rejected=float(np.mean(rejected[True])),
        known_rejected=float(np.mean(rejected[False])),
        unseen_named=float(np.mean(named[True])),
        seen_named=float(np.mean(named[False])),
    )


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
