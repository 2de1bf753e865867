"""Regions: connected pieces of the clusters, small ones absorbed, at full resolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ovsr_gpu.config import RegionConfig
from reference.arrays import Array


class PictureRegions(NamedTuple):
    """The regions of a picture: region_map `[H, W]`, boxes `[n, 4]` (x0, y0, x1, y1), areas `[n]` in pixels."""

    region_map: Array
    boxes: Array
    areas: Array


def localise(labels: Array, size: tuple[int, int], config: RegionConfig) -> PictureRegions:
    """Regions of clusters `[h, w]` in a picture of `size` (height, width)."""
    pieces = absorb_small(connected_pieces(labels), config.min_area * labels.size)
    return measure(enlarge(pieces, size))


def connected_pieces(labels: Array) -> Array:
    pieces = np.zeros(labels.shape, np.int64)
    found = 0
    for label in np.unique(labels):
        piece, count = ndimage.label(labels == label)
        pieces[piece > 0] = piece[piece > 0] + found
        found += count
    return number_by_first(pieces)


def number_by_first(labels: Array) -> Array:
    """Labels renamed 0, 1, ... in the order of their first cells."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].reshape(labels.shape)


def absorb_small(pieces: Array, least: float) -> Array:
    """Give the smallest piece to the neighbour with the longest common border until all have `least` cells."""
    count = pieces.max() + 1
    area = np.bincount(pieces.ravel())
    border = np.zeros((count, count), np.int64)
    for a, b in ((pieces[:, 1:], pieces[:, :-1]), (pieces[1:], pieces[:-1])):
        np.add.at(border, (a.ravel(), b.ravel()), 1)
    border += border.T
    np.fill_diagonal(border, 0)
    owner = np.arange(count)
    left = count
    while left > 1:
        smallest = np.argmin(np.where(area > 0, area, pieces.size + 1))
        if area[smallest] >= least:
            break
        neighbour = np.argmax(border[smallest])
        owner[owner == smallest] = neighbour
        area[neighbour] += area[smallest]
        border[neighbour] += border[smallest]
        border[:, neighbour] += border[:, smallest]
        border[neighbour, neighbour] = area[smallest] = 0
        border[smallest] = border[:, smallest] = 0
        left -= 1
    return number_by_first(owner[pieces])


def enlarge(labels: Array, size: tuple[int, int]) -> Array:
    """Each pixel takes the label that weighs most, in bilinear weights, among its four nearest cells."""
    (top, bottom, down), (left, right, across) = (
        between(n, length) for n, length in zip(labels.shape, size, strict=True)
    )
    down = down[:, None]
    nearest = [labels[np.ix_(row, column)] for row in (top, bottom) for column in (left, right)]
    weight = [vertical * sideways for vertical in (1 - down, down) for sideways in (1 - across, across)]
    result = nearest[0].copy()
    mixed = np.logical_or.reduce([label != nearest[0] for label in nearest[1:]])
    candidates = np.stack([label[mixed] for label in nearest])
    weights = np.stack([share[mixed] for share in weight])
    votes = np.stack([np.where(candidates == candidate, weights, 0).sum(axis=0) for candidate in candidates])
    result[mixed] = np.take_along_axis(candidates, votes.argmax(axis=0)[None], axis=0)[0]
    return result


def between(cells: int, pixels: int) -> tuple[Array, Array, Array]:
    """The two cells around each pixel's centre, and the weight of the second."""
    centre = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    low = np.floor(centre).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), centre - low


def measure(labels: Array) -> PictureRegions:
    """Number the labels that occur 0..n-1 and take their boxes and areas."""
    areas = np.bincount(labels.ravel())
    region_map = (np.cumsum(areas > 0) - 1)[labels]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(region_map + 1)]
    return PictureRegions(region_map, np.array(boxes), areas[areas > 0])
