"""Evaluation of a dataset: label it as `ovsr label` does and compute all scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ovsr_gpu.datasets import Dataset
from ovsr_gpu.datasets.labels import VOID
from ovsr_gpu.evaluation import (
    BoundaryFScore,
    BoundaryScores,
    Calibration,
    CalibrationScores,
    ConfusionMatrix,
    DatasetHungarian,
    DatasetHungarianScores,
    ImageHungarian,
    ImageHungarianScores,
    OpenSet,
    OpenSetScores,
    PanopticQuality,
    PixelScores,
    SegmentScores,
)
from ovsr_gpu.evaluation.counts import contingency_tables
from ovsr_gpu.evaluation.image_scores import ImageScores, ImageScoreTable
from ovsr_gpu.results import LabelledRegions
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.loading import load_batches
from ovsr_gpu.vocabulary import Vocabulary


@dataclass(frozen=True)
class Evaluation:
    """All scores of a dataset.

    Attributes:
        pixels: Scores by pixel.
        image_hungarian: Class-agnostic scores of the regions, per-image protocol.
        dataset_hungarian: Class-agnostic scores with the predicted classes as clusters, "something else" one of them.
        segments: Scores by segment; all pixels of a class in an image are one segment, as for stuff in COCO panoptic.
        boundaries: Boundary F-scores.
        calibration: Calibration of the region scores. A region is correct if its class is the most frequent target
            class of its pixels that are not void; on a tie, the class with the lowest index counts.
        open_set: None unless classes were withheld.
        images: Number of images.
        regions: Number of regions.
        seconds: Time in the method, without reading images and scoring.
        by_image: Scores of each image, in the order of the dataset.
    """

    pixels: PixelScores
    image_hungarian: ImageHungarianScores
    dataset_hungarian: DatasetHungarianScores
    segments: SegmentScores
    boundaries: BoundaryScores
    calibration: CalibrationScores
    open_set: OpenSetScores | None
    images: int
    regions: int
    seconds: float
    by_image: list[ImageScores]

    def totals(self) -> dict[str, Any]:
        """Return all scores except `by_image` as a dictionary for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "by_image"}


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    *,
    withheld: Sequence[str] = (),
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda num_done: None,
) -> Evaluation:
    """Label the examples of a dataset and score them.

    Args:
        segmenter: The method to evaluate.
        dataset: The examples and their classes.
        withheld: Names of classes that are removed from the vocabulary. Their pixels are the unknown ones of the
            open-set scores, where the score of a region is the probability of "something else" or, if the method has no
            prompt for it, 1 - the maximum probability of the classes. For all other scores they are void.
        batch_size: Number of images per batch.
        progress: Called with the number of finished images.

    Returns:
        All scores.

    Raises:
        ValueError: `withheld` names an unknown class or all classes.
        ImageError, DatasetError: An image or label map cannot be used; no example is skipped.
    """
    vocabulary, class_lookup = withhold_classes(dataset.vocabulary, withheld)
    class_lookup = class_lookup.to(segmenter.device)
    has_prompt = bool(segmenter.config.recognition.something_else)
    scores = _Accumulators(len(vocabulary), segmenter.device, is_open_set=bool(withheld), has_prompt=has_prompt)
    images = iter([example.source for example in dataset.examples])
    num_images = num_regions = 0
    seconds = 0.0
    with (
        closing(map_ahead(lambda example: example.target(), dataset.examples)) as targets,
        closing(load_batches(_batched(images, batch_size))) as batches,
    ):
        for batch in batches:
            for loaded in batch.images:
                if isinstance(loaded.pixels, Exception):
                    raise loaded.pixels
            start = time.perf_counter()
            prediction = segmenter(batch.image_batch.result(), vocabulary)
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize(segmenter.device)
            seconds += time.perf_counter() - start
            for index, class_map in enumerate(prediction.class_map):
                target = torch.from_numpy(next(targets)).to(segmenter.device).long()
                region_index = (prediction.regions.image_index == index).nonzero()[:, 0]
                regions = prediction.regions.map(partial(torch.index_select, dim=0, index=region_index))
                name = batch.images[index].source.name
                scores.update(name, class_map, prediction.region_map[index], regions, class_lookup[target])
            num_regions += len(prediction.regions)
            num_images += len(batch.images)
            progress(num_images)
    return scores.compute(num_images, num_regions, seconds)


def withhold_classes(vocabulary: Vocabulary, withheld: Sequence[str]) -> tuple[Vocabulary, Tensor]:
    """Remove classes from a vocabulary of C classes.

    Args:
        vocabulary: The vocabulary.
        withheld: Names of the classes to remove.

    Returns:
        The remaining vocabulary, and a lookup table `[C + 1]` int64 from the class indices of the full vocabulary to
        those of the remaining one: C for a withheld class, and VOID in the last entry, so that VOID (-1) maps to VOID.

    Raises:
        ValueError: `withheld` names an unknown class or all classes.
    """
    unknown = [name for name in withheld if name not in vocabulary.names]
    if unknown:
        raise ValueError(
            f"cannot withhold {unknown[0]!r}: the dataset has no class of that name; it has "
            f"{', '.join(vocabulary.names)}"
        )
    remaining = [index for index, name in enumerate(vocabulary.names) if name not in withheld]
    if not remaining:
        raise ValueError("all classes are withheld; keep at least one")
    lookup = torch.full((len(vocabulary) + 1,), len(vocabulary))
    lookup[remaining] = torch.arange(len(remaining))
    lookup[VOID] = VOID
    remaining_vocabulary = Vocabulary(
        tuple(vocabulary.synonyms[index] for index in remaining), tuple(vocabulary.names[index] for index in remaining)
    )
    return remaining_vocabulary, lookup


def _batched(images: Iterator[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    while batch := list(islice(images, size)):
        yield batch


class _Accumulators:
    """The accumulators of all scores, for L classes of the vocabulary."""

    def __init__(self, num_classes: int, device: torch.device, *, is_open_set: bool, has_prompt: bool) -> None:
        self._num_classes = num_classes
        self._pixels = ConfusionMatrix(num_classes)
        self._image_hungarian = ImageHungarian(num_classes)
        self._dataset_hungarian = DatasetHungarian(num_classes + 1, num_classes)
        self._segments = PanopticQuality(num_classes)
        self._boundaries = BoundaryFScore(num_classes)
        self._calibration = Calibration()
        self._open_set = OpenSet() if is_open_set else None
        self._by_image = ImageScoreTable()
        self._has_prompt = has_prompt
        self._classes = torch.arange(num_classes + 1, device=device)

    def update(
        self, name: str, class_map: Tensor, region_map: Tensor, regions: LabelledRegions, target: Tensor
    ) -> None:
        """Score one image with `target`, `[H, W]`: L or more for the withheld classes, VOID for void."""
        known_target = torch.where(target < self._num_classes, target, VOID)
        self._pixels.update(class_map, known_target)
        self._image_hungarian.update(region_map, known_target)
        self._dataset_hungarian.update(class_map, known_target)
        self._segments.update(class_map, self._classes, known_target, self._classes[:-1])
        self._boundaries.update(class_map, known_target)
        overlap = contingency_tables(region_map[None], known_target[None], len(regions), self._num_classes)[0]
        self._calibration.update(regions.score, overlap.argmax(1) == regions.class_index, overlap.sum(1))
        self._by_image.update(name, overlap, regions)
        if self._open_set is not None:
            is_unknown = torch.where(target == VOID, VOID, (target >= self._num_classes).long())
            classes, something_else = regions.probabilities[:, :-1], regions.probabilities[:, -1]
            score = something_else if self._has_prompt else 1 - classes.max(1).values
            self._open_set.update(region_map, score, regions.class_index == self._num_classes, is_unknown)

    def compute(self, num_images: int, num_regions: int, seconds: float) -> Evaluation:
        return Evaluation(
            self._pixels.compute(),
            self._image_hungarian.compute(),
            self._dataset_hungarian.compute(),
            self._segments.compute(),
            self._boundaries.compute(),
            self._calibration.compute(),
            None if self._open_set is None else self._open_set.compute(),
            num_images,
            num_regions,
            round(seconds, 3),
            self._by_image.compute(),
        )
