"""The masks of a picture's regions, out of COCO's compressed run lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask

from ovsr_gpu.export.record import Array
from ovsr_gpu.runs.store import Row


def paint_regions(regions: Sequence[Row], values: Sequence[int]) -> Array:
    """The picture of these regions with a value a region: `[H, W]` int32, 0 outside of all of them."""
    size = [regions[0]["height"], regions[0]["width"]]
    painted = np.zeros(size, np.int32)
    for row, value in zip(regions, values, strict=True):
        painted[mask.decode({"size": size, "counts": row["rle"]}).astype(bool)] = value
    return painted
