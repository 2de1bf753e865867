"""The demo: scenes of which everything is known are made, labelled and scored by what the labelling wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ovsr_gpu.drawing.palette import class_colors, label_image
from ovsr_gpu.errors import OvsrError
from ovsr_gpu.evaluation import ImageHungarian, PixelConfusion
from ovsr_gpu.runs.session import RunCallbacks, label_images
from ovsr_gpu.runs.worker import Worker
from ovsr_gpu.runtime.atomic import replacing, write_json
from ovsr_gpu.runtime.environment import versions
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.store import ANNOTATION, Store
from ovsr_gpu.synthetic.scenes import CLASSES, TEST_SEEDS, Scene, make_scene
from ovsr_gpu.vocabulary import Vocabulary

IMAGES, TRUTH, LABELLED, SCORES, SUMMARY = "images", "truth", "labelled", "demo.json", "summary.png"
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class DemoScores:
    """labelled_miou: `PixelScores.miou`. hungarian_miou: `ImageHungarianScores.image_miou`.

    images_per_second: with reading and writing.
    """

    labelled_miou: float
    hungarian_miou: float
    images_per_second: float
    scenes: int
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class LabelledScene:
    """A scene with what the labelling wrote about it.

    class_map, region_map: `[H, W]`. class_index: of each region, as many as CLASSES for "something else".
    """

    scene: Scene
    class_map: Array
    region_map: Array
    class_index: list[int]


def prepare_output(out: Path, scores: Path | None) -> None:
    """Make the folder `out`, remove from it what an earlier demo wrote, and see that `scores` can be written.

    Raises ValueError where the folder holds anything else, or one of the two cannot be written.
    """
    if out.exists() and not (out.is_dir() and ((out / SCORES).is_file() or not any(out.iterdir()))):
        raise ValueError(f"{str(out)!r} holds something else than an earlier demo; name another folder with --out")
    try:
        for folder in (IMAGES, TRUTH, LABELLED):
            shutil.rmtree(out / folder, ignore_errors=True)
        (out / SUMMARY).unlink(missing_ok=True)
        for file in filter(None, (out / SCORES, scores)):
            write_json(file, {"state": "not finished"})
    except OSError as error:
        raise ValueError(f"the demo cannot write {str(error.filename or out)!r}: {error.strerror}") from error


def make_images(out: Path, count: int, progress: Progress) -> list[Scene]:
    """The first `count` test scenes, with their images and true label maps written below `out`."""
    colors = class_colors(len(CLASSES))
    scenes = []
    for seed in TEST_SEEDS[:count]:
        scene = make_scene(seed)
        for folder, image in (
            (IMAGES, Image.fromarray(scene.pixels)),
            (TRUTH, label_image(scene.labels, colors)),
        ):
            with replacing(_file(out / folder, seed)) as file:
                image.save(file, format="PNG", compress_level=1)
        scenes.append(scene)
        progress(len(scenes), count)
    return scenes


def label_scenes(
    segmenter: Segmenter, out: Path, scenes: Sequence[Scene], progress: Progress
) -> tuple[list[LabelledScene], DemoScores]:
    """Label the images below `out` as `ovsr label` does, and score the files that this writes.

    Raises OvsrError where one of them cannot be labelled.
    """
    files = [_file(out / IMAGES, seed) for seed in TEST_SEEDS[: len(scenes)]]
    images = [ImageSource(file, file.stem) for file in files]
    run = label_images(
        Worker(segmenter.pipeline, Vocabulary.parse(CLASSES)), images, out / LABELLED, callbacks=RunCallbacks(progress)
    )
    if run.failed:
        raise OvsrError(f"{run.failed} scenes could not be labelled, the first because {run.failures[0].reason}")
    labelled = list(_read_results(out, scenes))
    confusion, hungarian = PixelConfusion(len(CLASSES)), ImageHungarian(len(CLASSES))
    for one in labelled:
        truth = torch.from_numpy(one.scene.labels)
        confusion.update(torch.from_numpy(one.class_map), truth)
        hungarian.update(torch.from_numpy(one.region_map), truth)
    scores = DemoScores(
        labelled_miou=round(confusion.result().miou, 4),
        hungarian_miou=round(hungarian.result().image_miou, 4),
        images_per_second=run.images_per_second,
        scenes=len(scenes),
        device=str(segmenter.device),
        versions=versions(),
    )
    write_json(out / SCORES, asdict(scores))
    return labelled, scores


def _read_results(out: Path, scenes: Sequence[Scene]) -> Iterator[LabelledScene]:
    """What was written about each scene."""
    regions = {own[0]["image"]: own for own in Store(out / LABELLED).images(ANNOTATION)}
    for seed, scene in zip(TEST_SEEDS, scenes, strict=False):
        own = regions[_file(out, seed).stem]
        region_map = paint_regions(own, range(len(own)))
        class_map = np.array(Image.open(_file(out / LABELLED / "labels", seed)))
        yield LabelledScene(scene, class_map, region_map, [region["class_index"] for region in own])


def _file(folder: Path, seed: int) -> Path:
    return folder / f"scene-{seed:03}.png"
