"""Both stages recorded as one CUDA graph, for the least latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ovsr_gpu.errors import ImageError
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.results import ClassTexts, Cut, LabelledRegions, Prediction
from ovsr_gpu.runtime.async_copy import PendingInteger
from ovsr_gpu.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovsr_gpu.pipeline import Segmenter

WARM_UPS = 3
"""Runs before the recording, in which libraries and kernels set themselves up."""


class CapturedSegmenter:
    """A Segmenter for batches of one shape and one vocabulary, whose work is launched all at once.

    Made by `Segmenter.capture`. It is not to be called from several threads at once.
    """

    def __init__(self, segmenter: Segmenter, shape: Sequence[int], vocabulary: Vocabulary, capacity: int) -> None:
        if segmenter.device.type != "cuda":
            raise ValueError(f"a CUDA graph needs a CUDA device; this Segmenter runs on {str(segmenter.device)!r}")
        if segmenter.config.regions.ancestors or segmenter.config.recognition.merge_regions:
            raise ValueError(
                "a CUDA graph has no room for regions.ancestors and recognition.merge_regions; switch them off"
            )
        self._segmenter, self._vocabulary, self._capacity = segmenter, vocabulary, capacity
        self._texts = segmenter.embed_classes(vocabulary)
        self._images = ImageBatch.of(torch.zeros(*shape, dtype=torch.uint8, device=segmenter.device), segmenter.device)
        recording = torch.cuda.Stream(segmenter.device)
        recording.wait_stream(torch.cuda.current_stream(segmenter.device))
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(segmenter.device):
            with torch.cuda.stream(recording):
                for _ in range(WARM_UPS):
                    both_stages(segmenter, self._images, self._texts, capacity)
            with torch.cuda.graph(self._graph, stream=recording):
                self._found = both_stages(segmenter, self._images, self._texts, capacity)
        torch.cuda.current_stream(segmenter.device).wait_stream(recording)

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
        found, total = self._found, PendingInteger(self._found.cut.table.total).read()
        regions, class_map = all_regions(self._segmenter, self._images, self._texts, found, total)
        # The next call writes over what the graph has left.
        return Prediction(
            found.cut.region_map.clone(),
            regions.each(torch.clone),
            found.cut.singular_values.clone(),
            found.cut.cluster_count.clone(),
            class_map.clone(),
            self._vocabulary.names,
        )


class BothStages(NamedTuple):
    """What both stages leave on the device: named are the first `capacity` slots of the table of regions."""

    cut: Cut
    named: LabelledRegions
    class_map: Tensor


def both_stages(segmenter: Segmenter, images: ImageBatch, texts: ClassTexts, capacity: int) -> BothStages:
    """The whole method without a single number for the host, naming at most `capacity` regions of the batch."""
    cut = segmenter.cut(images)
    _, named, class_map = segmenter.name(images, cut.region_map, cut.table.regions.run(0, capacity), None, texts)
    return BothStages(cut, named, class_map)


def all_regions(
    segmenter: Segmenter, images: ImageBatch, texts: ClassTexts, found: BothStages, total: int
) -> tuple[LabelledRegions, Tensor]:
    """The `total` named regions and their class map `[B, H, W]`: those found, or all anew where some had no room."""
    if total <= len(found.named):
        return found.named.run(0, total), found.class_map
    _, named, class_map = segmenter.name(
        images, found.cut.region_map, found.cut.table.regions.run(0, total), None, texts
    )
    return named, class_map
