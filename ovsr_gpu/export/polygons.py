"""Polygons of regions, for formats without masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree

from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import Row

CONTOUR_LEVEL = 0.6
"""Contours are drawn between the centers of inside pixels (1) and outside pixels (0), 0.4 pixels from inside centers.

At this level both ways of reading polygons are exact. Ultralytics and labelme round coordinates down, which gives the
inside pixels. Other readers keep the fractions, and the polygon then contains exactly the centers of inside pixels.
"""


def polygons(regions: Sequence[Row]) -> Iterator[Array]:
    """Yield one polygon per region of an image.

    Holes and further components are connected to the outline by seams: lines to the nearest point and back. A connected
    region is recovered exactly. Readers that also paint outlines paint the seams: rarely a few pixels of a
    hole, and between components all pixels that the seams cross.

    Args:
        regions: All regions of the image, with the columns of `ANNOTATION_COLUMNS`.

    Yields:
        `[n, 2]` float64, n > 2: (x, y) in pixels from the upper left corner of the image.
    """
    region_map = paint_regions(regions, range(1, len(regions) + 1))
    for number, row in enumerate(regions, start=1):
        x0, y0, x1, y1 = row["box"]
        inside = np.pad(region_map[y0:y1, x0:x1] == number, 1).astype(np.float64)
        contours = contour_generator(z=inside, fill_type=FillType.OuterOffset).filled(CONTOUR_LEVEL, 2)
        rings = [
            points[start : stop - 1]  # the last point repeats the first
            for points, offsets in zip(*contours, strict=True)
            for start, stop in pairwise(offsets)
        ]
        yield _remove_collinear_points(_connect_rings(rings)) + np.array([x0 - 0.5, y0 - 0.5])


def _connect_rings(rings: Sequence[Array]) -> Array:
    """Connect all rings to the first one by seams."""
    outline, *others = rings
    for ring in others:
        distances, nearest = KDTree(outline).query(ring)
        start = int(distances.argmin())
        seam = int(nearest[start])
        outline = np.concatenate([outline[: seam + 1], ring[start:], ring[: start + 1], outline[seam:]])
    return outline


def _remove_collinear_points(ring: Array) -> Array:
    """Remove the points at which the outline goes straight on."""
    arriving, leaving = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = arriving[:, 0] * leaving[:, 1] - arriving[:, 1] * leaving[:, 0]
    forward = (arriving * leaving).sum(axis=1)
    return ring[(abs(turn) > 1e-9) | (forward < 0)]
