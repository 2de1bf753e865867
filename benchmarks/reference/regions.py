"""Regions: connected pieces of the clusters, small ones absorbed, at full resolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ovsr_gpu.config import RegionConfig
from reference.arrays import Array

FINENESS = 4  # how many times finer than the grid the outlines are


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
    """The finer outlines at full size: each pixel takes the fine cell under its centre."""
    fine = refine(labels)
    rows, columns = ((2 * np.arange(n) + 1) * cells // (2 * n) for n, cells in zip(size, fine.shape, strict=True))
    return fine[np.ix_(rows, columns)]


def refine(labels: Array) -> Array:
    """A finer grid on which a cell takes the label that weighs most, in bilinear weights, among its nearest four."""
    (top, bottom, down), (left, right, across) = (between(cells) for cells in labels.shape)
    nearest = np.stack([labels[np.ix_(row, column)] for row in (top, bottom) for column in (left, right)])
    weight = np.stack([y[:, None] * x for y in (1 - down, down) for x in (1 - across, across)])
    votes = np.stack([np.where(nearest == label, weight, 0).sum(axis=0) for label in nearest])
    return np.take_along_axis(nearest, votes.argmax(axis=0)[None], axis=0)[0]


def between(cells: int) -> tuple[Array, Array, Array]:
    """The two cells around the centre of each fine cell, and the weight of the second."""
    centre = np.clip((np.arange(FINENESS * cells) + 0.5) / FINENESS - 0.5, 0, cells - 1)
    low = np.floor(centre).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), centre - low


def measure(labels: Array) -> PictureRegions:
    """Number the labels that occur 0..n-1 and take their boxes and areas."""
    areas = np.bincount(labels.ravel())
    region_map = (np.cumsum(areas > 0) - 1)[labels]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(region_map + 1)]
    return PictureRegions(region_map, np.array(boxes), areas[areas > 0])
