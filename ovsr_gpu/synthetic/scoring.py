"""Scores of a segmenter on the synthetic scenes, as in the model card.

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
from ovsr_gpu.evaluation import ConfusionMatrix, ImageHungarian
from ovsr_gpu.models.embedded import EMBEDDED
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.synthetic.scenes import CLASSES, COMBINATIONS, TEST_SEEDS, UNSEEN_COMBINATIONS, Scene, make_scene
from ovsr_gpu.synthetic.shapes import SHAPES
from ovsr_gpu.synthetic.surfaces import BACKGROUNDS

SHAPE_THIRDS = tuple(tuple(SHAPES)[start::3] for start in range(3))
BATCH_SIZE = 8


@dataclass(frozen=True)
class SceneScores:
    """Scores on synthetic scenes.

    Attributes:
        labelled_miou, hungarian_miou: `PixelScores.miou` and `ImageHungarianScores.image_miou`, with the vocabulary
            CLASSES.
        unknown_rejected, known_rejected: Fractions of the regions classified as "something else" with a third of the
            shapes removed from the vocabulary, among the regions of these shapes and among all others, over all three
            thirds.
        unseen_named, seen_named: Fractions of the objects whose most frequent predicted class has the right color and
            shape with all COMBINATIONS as the vocabulary, among UNSEEN_COMBINATIONS and among the others.
    """

    labelled_miou: float
    hungarian_miou: float
    unknown_rejected: float
    known_rejected: float
    unseen_named: float
    seen_named: float


def score_scenes(segmenter: Segmenter, scenes: Sequence[Scene]) -> SceneScores:
    """Return the scores of a segmenter on scenes."""
    confusion, hungarian = ConfusionMatrix(len(CLASSES)), ImageHungarian(len(CLASSES))
    rejected: dict[bool, list[bool]] = {True: [], False: []}
    named: dict[bool, list[bool]] = {True: [], False: []}
    for start in range(0, len(scenes), BATCH_SIZE):
        batch = scenes[start : start + BATCH_SIZE]
        images = [scene.pixels for scene in batch]
        segmentation = segmenter.segment(images)
        region_counts = segmentation.regions.counts(len(batch)).tolist()
        shapes: list[str] = []  # the ground-truth shape or background of each region of the batch
        prediction = segmenter.recognize(images, segmentation, CLASSES)
        for scene, region_map, class_map, num_regions in zip(
            batch, segmentation.region_map, prediction.class_map, region_counts, strict=True
        ):
            target = torch.from_numpy(scene.labels).to(region_map.device)
            confusion.update(class_map, target)
            hungarian.update(region_map, target)
            shapes += [item.shape for item, _ in scene.region_contents(region_map.cpu().numpy(), num_regions)]
        for withheld in SHAPE_THIRDS:
            known = [name for name in CLASSES if name not in withheld]
            prediction = segmenter.recognize(images, segmentation, known)
            for shape, class_index in zip(shapes, prediction.regions.class_index.tolist(), strict=True):
                rejected[shape in withheld].append(class_index == len(known))
        prediction = segmenter.recognize(images, segmentation, [*map(" ".join, COMBINATIONS), *BACKGROUNDS])
        for scene, class_map in zip(batch, prediction.class_map, strict=True):
            predicted_classes = class_map.cpu().numpy()
            for instance, item in enumerate(scene.objects, 1):
                pair = (item.color, item.shape)
                predicted = np.bincount(predicted_classes[scene.instance_map == instance]).argmax()
                named[pair in UNSEEN_COMBINATIONS].append(predicted == COMBINATIONS.index(pair))
    return SceneScores(
        labelled_miou=confusion.compute().miou,
        hungarian_miou=hungarian.compute().image_miou,
        unknown_rejected=float(np.mean(rejected[True])),
        known_rejected=float(np.mean(rejected[False])),
        unseen_named=float(np.mean(named[True])),
        seen_named=float(np.mean(named[False])),
    )


def score_embedded(config: Config, num_scenes: int, device: str) -> SceneScores:
    """Return the scores of the embedded models on the first test scenes."""
    segmenter = Segmenter.from_pretrained(config, backbone_weights=EMBEDDED, clip=EMBEDDED, device=device)
    return score_scenes(segmenter, [make_scene(seed) for seed in TEST_SEEDS[:num_scenes]])


def main(scenes: int = len(TEST_SEEDS), device: str = "auto") -> None:
    """Print the scores of the default configuration as JSON."""
    scores = score_embedded(Config(), scenes, device)
    typer.echo(json.dumps({name: round(score, 4) for name, score in asdict(scores).items()}, indent=2))


if __name__ == "__main__":
    typer.run(main)
