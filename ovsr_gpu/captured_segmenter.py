"""Both stages captured as one CUDA graph, for the lowest latency."""

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

NUM_WARMUPS = 3
"""Runs before the capture, in which libraries and kernels initialize themselves."""


class CapturedSegmenter:
    """A segmenter for batches of one shape and one vocabulary that launches all its work as one CUDA graph.

    `Segmenter.capture` makes it. Several threads must not call it at the same time.

    Args:
        pipeline: The pipeline on a CUDA device.
        shape: The shape of the images, (B, 3, H, W).
        vocabulary: The classes.
        capacity: Number of regions per batch that the graph classifies.

    Raises:
        ValueError: The device is not a CUDA device, or the configuration sets `regions.ancestors` or
            `recognition.merge_regions`.
    """

    def __init__(self, pipeline: Pipeline, shape: Sequence[int], vocabulary: Vocabulary, capacity: int) -> None:
        if pipeline.device.type != "cuda":
            raise ValueError(f"a CUDA graph needs a CUDA device; this Segmenter runs on {str(pipeline.device)!r}")
        if pipeline.config.regions.ancestors or pipeline.config.recognition.merge_regions:
            raise ValueError(
                "a CUDA graph does not support regions.ancestors and recognition.merge_regions; switch them off"
            )
        self._pipeline, self._vocabulary = pipeline, vocabulary
        self._texts = pipeline.embed_classes(vocabulary)
        self._images = ImageBatch.of(torch.zeros(*shape, dtype=torch.uint8, device=pipeline.device), pipeline.device)
        stream = torch.cuda.Stream(pipeline.device)
        stream.wait_stream(torch.cuda.current_stream(pipeline.device))
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(pipeline.device):
            with torch.cuda.stream(stream):
                for _ in range(NUM_WARMUPS):
                    run_both_stages(pipeline, self._images, self._texts, capacity)
            with torch.cuda.graph(self._graph, stream=stream):
                self._output = run_both_stages(pipeline, self._images, self._texts, capacity)
        torch.cuda.current_stream(pipeline.device).wait_stream(stream)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """Run both stages, like a call of the Segmenter.

        If there are more than `capacity` regions, stage 2 runs again with all of them.

        Args:
            images: `[B, 3, H, W]` uint8 of the captured shape, on any device.

        Returns:
            The prediction, independent of later calls.

        Raises:
            ImageError: The images have another shape or dtype.
        """
        pixels = self._images.pixels
        if images.shape != pixels.shape or images.dtype != torch.uint8:
            raise ImageError(
                f"this graph was captured for {list(pixels.shape)} torch.uint8; got {list(images.shape)} {images.dtype}"
            )
        pixels.copy_(images, non_blocking=True)
        self._graph.replay()
        output, total = self._output, PendingInteger(self._output.stage_one.table.total).read()
        regions, class_map = classify_all_regions(self._pipeline, self._images, self._texts, output, total)
        # Cloned because the next replay overwrites the output of the graph.
        return Prediction(
            output.stage_one.region_map.clone(),
            regions.map(torch.clone),
            output.stage_one.singular_values.clone(),
            output.stage_one.cluster_count.clone(),
            class_map.clone(),
            self._vocabulary.names,
        )


class BothStagesOutput(NamedTuple):
    """The output of both stages on the device; only the first `capacity` slots of the table are classified."""

    stage_one: StageOne
    regions: LabelledRegions
    class_map: Tensor


def run_both_stages(pipeline: Pipeline, images: ImageBatch, texts: ClassTexts, capacity: int) -> BothStagesOutput:
    """Run the whole method without any copy to the host, and classify at most `capacity` regions of the batch.

    Args:
        pipeline: The pipeline.
        images: The batch.
        texts: The class texts.
        capacity: Number of regions to classify; slots beyond the actual number are empty.

    Returns:
        The results of both stages, on the device.
    """
    stage_one = pipeline.segment(images)
    _, regions, class_map = pipeline.recognize(
        images, stage_one.region_map, stage_one.table.regions.slice(0, capacity), None, texts
    )
    return BothStagesOutput(stage_one, regions, class_map)


def classify_all_regions(
    pipeline: Pipeline, images: ImageBatch, texts: ClassTexts, output: BothStagesOutput, total: int
) -> tuple[LabelledRegions, Tensor]:
    """Return all regions with their classes, and the class map; run stage 2 again if `output` has too few regions.

    Args:
        pipeline: The pipeline.
        images: The batch.
        texts: The class texts.
        output: The result of `run_both_stages` for the batch.
        total: Number of regions of the batch.

    Returns:
        `total` regions and the class map `[B, H, W]` int32.
    """
    if total <= len(output.regions):
        return output.regions.slice(0, total), output.class_map
    _, regions, class_map = pipeline.recognize(
        images, output.stage_one.region_map, output.stage_one.table.regions.slice(0, total), None, texts
    )
    return regions, class_map
