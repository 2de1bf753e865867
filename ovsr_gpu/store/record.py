"""What every format is written from, and the protocol that all formats follow."""

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
    """One finished image on the host, with its n regions in the order of their numbers.

    pixels: `[H, W, 3]` uint8. class_map, region_map: `[H, W]` int32. boxes: `[n, 4]` int64, (x0, y0, x1, y1), x1 and
    y1 exclusive. areas: `[n]` int64, pixels. class_index: `[n]` int64, L for "something else". scores: `[n]` float32.
    probabilities: `[n, L+1]` float32. embeddings: `[n, E]` float32, unit length. run_lengths: the n masks as COCO's
    compressed counts.
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


class Writer(Protocol):
    """One output format that has a file an image, written during the run.

    `write` takes one finished image; it is called from several threads at once.
    """

    def write(self, record: LabelledImage) -> None: ...


class PendingRecords:
    """A prediction for a list of B images on its way to the host, as one record an image.

    run_lengths: of its regions. pixels: the B `[3, H, W]` uint8 images that it was made for, on any device.
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
        """The records, once they have arrived."""
        counts, *columns = (column.numpy() for column in self._columns.wait())
        stops = np.cumsum(counts)
        by_column: list[list[Any]] = [np.split(column, stops[:-1]) for column in columns]
        run_lengths = self._run_lengths.read()
        by_column.append([run_lengths[stop - count : stop] for stop, count in zip(stops, counts, strict=True)])
        class_maps, region_maps = (maps.wait() for maps in self._maps)
        return [
            LabelledImage(image, rgb.wait()[0].numpy(), class_map.numpy(), region_map.numpy(), *own)
            for image, rgb, class_map, region_map, *own in zip(
                self._images, self._pixels, class_maps, region_maps, *by_column, strict=True
            )
        ]
