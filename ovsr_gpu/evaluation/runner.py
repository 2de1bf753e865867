"""A dataset labelled as `ovsr label` does, and every score of it."""

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
    BoundaryScore,
    BoundaryScores,
    Calibration,
    CalibrationScores,
    DatasetHungarian,
    DatasetHungarianScores,
    ImageHungarian,
    ImageHungarianScores,
    OpenSet,
    OpenSetScores,
    PixelConfusion,
    PixelScores,
    RegionMatches,
    RegionScores,
)
from ovsr_gpu.evaluation.counts import joint_counts
from ovsr_gpu.evaluation.image_scores import ImageScores, ImageTable
from ovsr_gpu.results import LabelledRegions
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.loading import load_batches
from ovsr_gpu.vocabulary import Vocabulary


@dataclass(frozen=True)
class Evaluation:
    """What a dataset came to; the scores explain themselves.

    pixels: the class of each pixel. image_hungarian: the regions, by the per-image protocol. dataset_hungarian: the
    predicted classes as clusters, "something else" one more. segments: all pixels of a class in an image are one, as
    COCO panoptic takes stuff. calibration: of the regions' scores; a region is right where its class has the most of
    its pixels that are not void, the lowest class of several. open_set: None unless classes were withheld.
    images, regions: how many. seconds: in the method alone. by_image: the scores of each, in their order.
    """

    pixels: PixelScores
    image_hungarian: ImageHungarianScores
    dataset_hungarian: DatasetHungarianScores
    segments: RegionScores
    boundaries: BoundaryScores
    calibration: CalibrationScores
    open_set: OpenSetScores | None
    images: int
    regions: int
    seconds: float
    by_image: list[ImageScores]

    def totals(self) -> dict[str, Any]:
        """All but `by_image`, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "by_image"}


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    *,
    withheld: Sequence[str] = (),
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Label the examples of a dataset and score them.

    withheld: names of classes that are kept out of the vocabulary. Their pixels are the unknown ones of the open set,
    scored by the probability of "something else" or, without a prompt for it, by what the best class lacks of 1; they
    are void for all other scores. `progress` is called with the number of images done.

    Raises ValueError where `withheld` names no class of the dataset or all of them; ImageError and DatasetError for
    an image or label map that cannot be used: an evaluation has all of its examples or none.
    """
    vocabulary, known = without(dataset.vocabulary, withheld)
    known = known.to(segmenter.device)
    by_prompt = bool(segmenter.config.recognition.something_else)
    scores = _Accumulators(len(vocabulary), segmenter.device, open_set=bool(withheld), by_prompt=by_prompt)
    images = iter([example.source for example in dataset.examples])
    done = regions = 0
    seconds = 0.0
    with (
        closing(map_ahead(lambda example: example.truth(), dataset.examples)) as truths,
        closing(load_batches(_in_batches(images, batch_size))) as batches,
    ):
        for batch in batches:
            for loaded in batch.images:
                if isinstance(loaded.pixels, Exception):
                    raise loaded.pixels
            start = time.perf_counter()
            prediction = segmenter(batch.canvas.result(), vocabulary)
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize(segmenter.device)
            seconds += time.perf_counter() - start
            for index, class_map in enumerate(prediction.class_map):
                truth = torch.from_numpy(next(truths)).to(segmenter.device).long()
                own = (prediction.regions.image_index == index).nonzero()[:, 0]
                regions_of_it = prediction.regions.each(partial(torch.index_select, dim=0, index=own))
                name = batch.images[index].source.name
                scores.update(name, class_map, prediction.region_map[index], regions_of_it, known[truth])
            regions += len(prediction.regions)
            done += len(batch.images)
            progress(done)
    return scores.result(done, regions, seconds)


def without(vocabulary: Vocabulary, withheld: Sequence[str]) -> tuple[Vocabulary, Tensor]:
    """The rest of the vocabulary, and for each class of the whole its index there.

    The table is `[C + 1]` int64: C for a class that is withheld, VOID at the end, where the index VOID looks.
    Raises ValueError where `withheld` names no class of the vocabulary or all of them.
    """
    unknown = [name for name in withheld if name not in vocabulary.names]
    if unknown:
        raise ValueError(
            f"the dataset has no class {unknown[0]!r} that could be withheld; it has {', '.join(vocabulary.names)}"
        )
    kept = [index for index, name in enumerate(vocabulary.names) if name not in withheld]
    if not kept:
        raise ValueError("all classes are withheld; leave one at least")
    known = torch.full((len(vocabulary) + 1,), len(vocabulary))
    known[kept] = torch.arange(len(kept))
    known[VOID] = VOID
    rest = Vocabulary(
        tuple(vocabulary.synonyms[index] for index in kept), tuple(vocabulary.names[index] for index in kept)
    )
    return rest, known


def _in_batches(images: Iterator[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    while batch := list(islice(images, size)):
        yield batch


class _Accumulators:
    """All scores together, for L classes of the vocabulary."""

    def __init__(self, classes: int, device: torch.device, *, open_set: bool, by_prompt: bool) -> None:
        self._classes = classes
        self._pixels = PixelConfusion(classes)
        self._image_hungarian = ImageHungarian(classes)
        self._dataset_hungarian = DatasetHungarian(classes + 1, classes)
        self._segments = RegionMatches(classes)
        self._boundaries = BoundaryScore(classes)
        self._calibration = Calibration()
        self._open_set = OpenSet() if open_set else None
        self._by_image = ImageTable()
        self._by_prompt = by_prompt
        self._found_class = torch.arange(classes + 1, device=device)

    def update(self, name: str, class_map: Tensor, region_map: Tensor, regions: LabelledRegions, truth: Tensor) -> None:
        """One image. truth: `[H, W]`, from L on the withheld classes, VOID for void."""
        named = torch.where(truth < self._classes, truth, VOID)
        self._pixels.update(class_map, named)
        self._image_hungarian.update(region_map, named)
        self._dataset_hungarian.update(class_map, named)
        self._segments.update(class_map, self._found_class, named, self._found_class[:-1])
        self._boundaries.update(class_map, named)
        shared = joint_counts(region_map[None], named[None], len(regions), self._classes)[0]
        self._calibration.update(regions.score, shared.argmax(1) == regions.class_index, shared.sum(1))
        self._by_image.update(name, shared, regions)
        if self._open_set is not None:
            unknown = torch.where(truth == VOID, VOID, (truth >= self._classes).long())
            classes, prompt = regions.probabilities[:, :-1], regions.probabilities[:, -1]
            score = prompt if self._by_prompt else 1 - classes.max(1).values
            self._open_set.update(region_map, score, regions.class_index == self._classes, unknown)

    def result(self, images: int, regions: int, seconds: float) -> Evaluation:
        return Evaluation(
            self._pixels.result(),
            self._image_hungarian.result(),
            self._dataset_hungarian.result(),
            self._segments.result(),
            self._boundaries.result(),
            self._calibration.result(),
            None if self._open_set is None else self._open_set.result(),
            images,
            regions,
            round(seconds, 3),
            self._by_image.result(),
        )
