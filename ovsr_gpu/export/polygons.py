"""Polygons around regions, for formats that have no masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree

from ovsr_gpu.export.coco import Row
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.record import Array

LEVEL = 0.6
"""Where outlines run between the centers of pixels inside, at 1, and outside, at 0: 0.4 pixels from those inside.

So a coordinate without its fraction is that of the pixel inside, which is what Ultralytics and labelme make of it, and
the centers in the polygon are those of the region alone, which is what counts for readers that keep the fractions.
"""


def polygons(regions: Sequence[Row]) -> Iterator[Array]:
    """One polygon a region: `[n, 2]` float64, n > 2, (x, y) in pixels from the image's upper left corner.

    Holes and further pieces are joined to the outline by seams, lines there and back between their nearest points.
    A region in one piece is read back whole. Readers that paint outlines as well paint the seams: seldom a few pixels
    of a hole, and between pieces all that the seams cross.
    """
    region_map = paint_regions(regions, range(1, len(regions) + 1))
    for number, row in enumerate(regions, start=1):
        x0, y0, x1, y1 = row["box"]
        inside = np.pad(region_map[y0:y1, x0:x1] == number, 1).astype(np.float64)
        contours = contour_generator(z=inside, fill_type=FillType.OuterOffset).filled(LEVEL, 2)
        rings = [
            points[start : stop - 1]  # the last point is the first one again
            for points, offsets in zip(*contours, strict=True)
            for start, stop in pairwise(offsets)
        ]
        yield _without_straight_points(_joined(rings)) + np.array([x0 - 0.5, y0 - 0.5])


def _joined(rings: Sequence[Array]) -> Array:
    outline, *others = rings
    for ring in others:
        distances, nearest = KDTree(outline).query(ring)
        start = int(distances.argmin())
        seam = int(nearest[start])
        outline = np.concatenate([outline[: seam + 1], ring[start:], ring[: start + 1], outline[seam:]])
    return outline


def _without_straight_points(ring: Array) -> Array:
    arriving, leaving = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = arriving[:, 0] * leaving[:, 1] - arriving[:, 1] * leaving[:, 0]
    ahead = (arriving * leaving).sum(axis=1)
    return ring[(abs(turn) > 1e-9) | (ahead < 0)]
