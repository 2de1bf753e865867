"""The result of one labelled image on the host: what the store and all outputs are written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ovsr_gpu.results import Prediction
from ovsr_gpu.run_lengths import PendingRunLengths
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.sources.image_source import ImageSource

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image on the host. Its n regions are ordered by region number.

    Attributes:
        source: Where the image comes from.
        pixels: `[H, W, 3]` uint8, RGB.
        class_map: `[H, W]` int32, class indices; L means "something else".
        region_map: `[H, W]` int32, region numbers 0..n-1.
        boxes: `[n, 4]` int64, (x0, y0, x1, y1) in pixels; x1 and y1 are exclusive.
        areas: `[n]` int64, pixels.
        class_index: `[n]` int64, L means "something else".
        scores: `[n]` float32, the probability of the predicted class.
        probabilities: `[n, L+1]` float32.
        embeddings: `[n, E]` float32, unit length.
        run_lengths: The n masks as COCO's compressed counts.
    """

    source: ImageSource
    pixels: Array
    class_map: Array
    region_map: Array
    boxes: Array
    areas: Array
    class_index: Array
    scores: Array
    probabilities: Array
    embeddings: Array
    run_lengths: Sequence[str]


class ImageWriter(Protocol):
    """An output format with one file per image, written during the run."""

    def write(self, record: LabelledImage) -> None:
        """Write the file of one image. Called from several threads at once."""


class PendingRecords:
    """The records of a batch of B images while they are being copied to the host.

    Args:
        prediction: The prediction for the images, on any device.
        run_lengths: The masks of its regions.
        images: The B sources.
        pixels: The B images, each `[3, H, W]` uint8, on any device.
    """

    def __init__(
        self,
        prediction: Prediction,
        run_lengths: PendingRunLengths,
        images: Sequence[ImageSource],
        pixels: Sequence[Tensor],
    ) -> None:
        regions = prediction.regions
        self._images = images
        self._columns = PendingTensors(
            regions.counts(len(images)),
            *(
                regions.boxes,
                regions.areas,
                regions.class_index,
                regions.score,
                regions.probabilities,
                regions.embeddings,
            ),
        )
        self._maps = [PendingTensors(*maps) for maps in (prediction.class_map, prediction.region_map)]
        self._pixels = [PendingTensors(rgb.permute(1, 2, 0)) for rgb in pixels]
        self._run_lengths = run_lengths

    def wait(self) -> list[LabelledImage]:
        """Return one record per image; blocks until the copies have arrived."""
        counts, *columns = (column.numpy() for column in self._columns.wait())
        stops = np.cumsum(counts)
        by_column: list[list[Any]] = [np.split(column, stops[:-1]) for column in columns]
        run_lengths = self._run_lengths.read()
        by_column.append([run_lengths[stop - count : stop] for stop, count in zip(stops, counts, strict=True)])
        class_maps, region_maps = (maps.wait() for maps in self._maps)
        return [
            LabelledImage(image, rgb.wait()[0].numpy(), class_map.numpy(), region_map.numpy(), *fields)
            for image, rgb, class_map, region_map, *fields in zip(
                self._images, self._pixels, class_maps, region_maps, *by_column, strict=True
            )
        ]
