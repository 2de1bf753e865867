"""The demo: generate scenes with known ground truth, label them, and score the files that the run wrote."""

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
from ovsr_gpu.evaluation import ConfusionMatrix, ImageHungarian
from ovsr_gpu.runs.session import RunCallbacks, label_images
from ovsr_gpu.runs.worker import Worker
from ovsr_gpu.runtime.atomic import atomic_write, write_json
from ovsr_gpu.runtime.environment import versions
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS
from ovsr_gpu.synthetic.scenes import CLASSES, TEST_SEEDS, Scene, make_scene
from ovsr_gpu.vocabulary import Vocabulary

IMAGES, TARGETS, LABELLED = "images", "targets", "labelled"
"""Folders of the demo."""
SCORES, SUMMARY = "demo.json", "summary.png"
"""Files of the demo."""
Progress = Callable[[int, int | None], None]
"""Called with the number of finished images and the total."""


@dataclass(frozen=True)
class DemoScores:
    """Scores of the demo, with the speed and the environment.

    Attributes:
        labelled_miou: `PixelScores.miou`.
        hungarian_miou: `ImageHungarianScores.image_miou`.
        images_per_second: Speed including reading and writing of files.
        scenes: Number of scenes.
        device: The device of the networks.
        versions: Versions of the packages.
    """

    labelled_miou: float
    hungarian_miou: float
    images_per_second: float
    scenes: int
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class LabelledScene:
    """A scene with its labels as read from the files of the run.

    Attributes:
        scene: The scene.
        class_map, region_map: `[H, W]` integers.
        class_index: Class of each region; `len(CLASSES)` is "something else".
    """

    scene: Scene
    class_map: Array
    region_map: Array
    class_index: list[int]


def prepare_output(out: Path, scores: Path | None) -> None:
    """Create the output folder, remove the files of an earlier demo, and check that all files can be written.

    Args:
        out: The output folder.
        scores: An additional file for the scores.

    Raises:
        ValueError: The folder contains anything except an earlier demo, or a file cannot be written.
    """
    if out.exists() and not (out.is_dir() and ((out / SCORES).is_file() or not any(out.iterdir()))):
        raise ValueError(f"{str(out)!r} is not empty and not an earlier demo; choose another folder with --out")
    try:
        for folder in (IMAGES, TARGETS, LABELLED):
            shutil.rmtree(out / folder, ignore_errors=True)
        (out / SUMMARY).unlink(missing_ok=True)
        for file in filter(None, (out / SCORES, scores)):
            write_json(file, {"state": "not finished"})
    except OSError as error:
        raise ValueError(f"the demo cannot write {str(error.filename or out)!r}: {error.strerror}") from error


def write_scenes(out: Path, count: int, progress: Progress) -> list[Scene]:
    """Generate the first test scenes, and write their images and ground-truth label maps.

    Args:
        out: The output folder; see `IMAGES` and `TARGETS`.
        count: Number of scenes.
        progress: Called with the number of finished scenes and the total.

    Returns:
        The scenes.
    """
    colors = class_colors(len(CLASSES))
    scenes = []
    for seed in TEST_SEEDS[:count]:
        scene = make_scene(seed)
        for folder, image in ((IMAGES, Image.fromarray(scene.pixels)), (TARGETS, label_image(scene.labels, colors))):
            with atomic_write(_file(out / folder, seed)) as file:
                image.save(file, format="PNG", compress_level=1)
        scenes.append(scene)
        progress(len(scenes), count)
    return scenes


def label_scenes(
    segmenter: Segmenter, out: Path, scenes: Sequence[Scene], progress: Progress
) -> tuple[list[LabelledScene], DemoScores]:
    """Label the images in `out` as `ovsr label` does, and score the files that the run writes.

    Args:
        segmenter: The method.
        out: The output folder, with the images that `write_scenes` wrote.
        scenes: The scenes that `write_scenes` returned.
        progress: Called with the number of finished images and the total.

    Returns:
        The scenes with their labels, and the scores.

    Raises:
        OvsrError: An image cannot be labelled.
    """
    files = [_file(out / IMAGES, seed) for seed in TEST_SEEDS[: len(scenes)]]
    images = [ImageSource(file, file.stem) for file in files]
    run = label_images(
        Worker(segmenter.pipeline, Vocabulary.parse(CLASSES)), images, out / LABELLED, callbacks=RunCallbacks(progress)
    )
    if run.failed:
        raise OvsrError(f"{run.failed} scenes could not be labelled; the first error is: {run.failures[0].reason}")
    labelled = list(_read_results(out, scenes))
    confusion, hungarian = ConfusionMatrix(len(CLASSES)), ImageHungarian(len(CLASSES))
    for labelled_scene in labelled:
        target = torch.from_numpy(labelled_scene.scene.labels)
        confusion.update(torch.from_numpy(labelled_scene.class_map), target)
        hungarian.update(torch.from_numpy(labelled_scene.region_map), target)
    scores = DemoScores(
        labelled_miou=round(confusion.compute().miou, 4),
        hungarian_miou=round(hungarian.compute().image_miou, 4),
        images_per_second=run.images_per_second,
        scenes=len(scenes),
        device=str(segmenter.device),
        versions=versions(),
    )
    write_json(out / SCORES, asdict(scores))
    return labelled, scores


def _read_results(out: Path, scenes: Sequence[Scene]) -> Iterator[LabelledScene]:
    """Yield each scene with its labels in the files of the run."""
    rows_by_image = {rows[0]["image"]: rows for rows in Store(out / LABELLED).images(ANNOTATION_COLUMNS)}
    for seed, scene in zip(TEST_SEEDS, scenes, strict=False):
        rows = rows_by_image[_file(out, seed).stem]
        region_map = paint_regions(rows, range(len(rows)))
        class_map = np.array(Image.open(_file(out / LABELLED / "labels", seed)))
        yield LabelledScene(scene, class_map, region_map, [row["class_index"] for row in rows])


def _file(folder: Path, seed: int) -> Path:
    return folder / f"scene-{seed:03}.png"
