"""Both stages recorded as one CUDA graph, for the lowest latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ovsr_gpu.errors import ImageError
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.results import ClassTexts, LabelledRegions, Prediction, StageOne
from ovsr_gpu.runtime.async_copy import PendingInteger
from ovsr_gpu.vocabulary import Vocabulary

WARM_UPS = 3
"""Runs before the recording, in which libraries and kernels set themselves up."""


class CapturedSegmenter:
    """A Segmenter for batches of one shape and one vocabulary, whose work is launched all at once.

    Made by `Segmenter.capture`. It is not to be called from several threads at once.
    """

    def __init__(self, pipeline: Pipeline, shape: Sequence[int], vocabulary: Vocabulary, capacity: int) -> None:
        if pipeline.device.type != "cuda":
            raise ValueError(f"a CUDA graph needs a CUDA device; this Segmenter runs on {str(pipeline.device)!r}")
        if pipeline.config.regions.ancestors or pipeline.config.recognition.merge_regions:
            raise ValueError(
                "a CUDA graph has no room for regions.ancestors and recognition.merge_regions; switch them off"
            )
        self._pipeline, self._vocabulary, self._capacity = pipeline, vocabulary, capacity
        self._texts = pipeline.embed_classes(vocabulary)
        self._images = ImageBatch.of(torch.zeros(*shape, dtype=torch.uint8, device=pipeline.device), pipeline.device)
        recording = torch.cuda.Stream(pipeline.device)
        recording.wait_stream(torch.cuda.current_stream(pipeline.device))
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(pipeline.device):
            with torch.cuda.stream(recording):
                for _ in range(WARM_UPS):
                    both_stages(pipeline, self._images, self._texts, capacity)
            with torch.cuda.graph(self._graph, stream=recording):
                self._found = both_stages(pipeline, self._images, self._texts, capacity)
        torch.cuda.current_stream(pipeline.device).wait_stream(recording)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """What the Segmenter gives of `[B, 3, H, W]` uint8 images of the captured shape, on any device.

        Where there are more than `capacity` regions, the second stage is done again with all of them.

        Raises ImageError for another shape or dtype.
        """
        pixels = self._images.pixels
        if images.shape != pixels.shape or images.dtype != torch.uint8:
            raise ImageError(
                f"this graph was captured for {list(pixels.shape)} torch.uint8; got {list(images.shape)} {images.dtype}"
            )
        pixels.copy_(images, non_blocking=True)
        self._graph.replay()
        found, total = self._found, PendingInteger(self._found.stage_one.table.total).read()
        regions, class_map = all_regions(self._pipeline, self._images, self._texts, found, total)
        # The next call writes over what the graph has left.
        return Prediction(
            found.stage_one.region_map.clone(),
            regions.each(torch.clone),
            found.stage_one.singular_values.clone(),
            found.stage_one.cluster_count.clone(),
            class_map.clone(),
            self._vocabulary.names,
        )


class BothStages(NamedTuple):
    """What both stages leave on the device: named are the first `capacity` slots of the table of regions."""

    stage_one: StageOne
    named: LabelledRegions
    class_map: Tensor


def both_stages(pipeline: Pipeline, images: ImageBatch, texts: ClassTexts, capacity: int) -> BothStages:
    """The whole method without a single number for the host, naming at most `capacity` regions of the batch."""
    stage_one = pipeline.segment(images)
    _, named, class_map = pipeline.recognize(
        images, stage_one.region_map, stage_one.table.regions.run(0, capacity), None, texts
    )
    return BothStages(stage_one, named, class_map)


def all_regions(
    pipeline: Pipeline, images: ImageBatch, texts: ClassTexts, found: BothStages, total: int
) -> tuple[LabelledRegions, Tensor]:
    """The `total` named regions and their class map `[B, H, W]`: those found, or all anew where some had no room."""
    if total <= len(found.named):
        return found.named.run(0, total), found.class_map
    _, named, class_map = pipeline.recognize(
        images, found.stage_one.region_map, found.stage_one.table.regions.run(0, total), None, texts
    )
    return named, class_map
