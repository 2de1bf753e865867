"""Regions: connected pieces of the clusters, small ones absorbed, at full resolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from ovsr_gpu.config import RegionConfig
from reference.arrays import Array

FINENESS = 4  # how many times finer than the grid the outlines are
REACH, SIGMA_PLACE, SIGMA_COLOR = 2, 1.5, 0.1  # of the votes on boundaries: cells, cells, color from 0 to 1


class ImageRegions(NamedTuple):
    """The regions of an image: region_map `[H, W]`, boxes `[n, 4]` (x0, y0, x1, y1), areas `[n]` in pixels."""

    region_map: Array
    boxes: Array
    areas: Array


def extract_regions(labels: Array, image: Array, config: RegionConfig) -> ImageRegions:
    """Regions of clusters `[h, w]` in an image `[H, W, 3]` uint8."""
    pieces = absorb_small(connected_pieces(labels), config.min_area * labels.size)
    if config.boundaries == "image":
        fine = refine(majority(joint_bilateral(pieces, image)), FINENESS // 2)
    else:
        fine = refine(pieces, FINENESS)
    return measure(enlarge(fine, image.shape[:2]))


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
    """Give the smallest piece to the neighbor with the longest common border until all have `least` cells."""
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
        neighbor = np.argmax(border[smallest])
        owner[owner == smallest] = neighbor
        area[neighbor] += area[smallest]
        border[neighbor] += border[smallest]
        border[:, neighbor] += border[:, smallest]
        border[neighbor, neighbor] = area[smallest] = 0
        border[smallest] = border[:, smallest] = 0
        left -= 1
    return number_by_first(owner[pieces])


def enlarge(fine: Array, size: tuple[int, int]) -> Array:
    """The finer outlines at full size: each pixel takes the fine cell under its center."""
    rows, columns = ((2 * np.arange(n) + 1) * cells // (2 * n) for n, cells in zip(size, fine.shape, strict=True))
    return fine[np.ix_(rows, columns)]


def joint_bilateral(labels: Array, image: Array) -> Array:
    """Twice as fine: of the labels in the 3 x 3 cells around, that with the most votes of the cells near in place and
    color."""
    height, width = labels.shape
    fine = Image.fromarray(image).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    colors = np.asarray(fine, np.float32) / 255
    cells = colors.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    steps = np.arange(-REACH, REACH + 1)
    (rows, down), (columns, across) = (around(cells, steps) for cells in labels.shape)
    near = {(y, x): labels[np.ix_(rows[y], columns[x])] for y in steps for x in steps}
    weight = {
        (y, x): np.exp(-(down[y][:, None] + across[x]) / (2 * SIGMA_PLACE**2))
        * np.exp(-((colors - cells[np.ix_(rows[y], columns[x])]) ** 2).sum(axis=2) / (2 * SIGMA_COLOR**2))
        for y in steps
        for x in steps
    }
    candidates = np.stack([near[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1)])
    votes = [sum(np.where(near[at] == label, weight[at], 0) for at in near) for label in candidates]
    return np.take_along_axis(candidates, np.argmax(votes, axis=0)[None], axis=0)[0]


def around(cells: int, steps: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """The cells so many steps from the one that each of twice as many lies in, and their squared distances from it,
    infinite where there is none."""
    fine = np.arange(2 * cells)
    places, distances = {}, {}
    for step in steps:
        place = fine // 2 + step
        places[step] = place.clip(0, cells - 1)
        distances[step] = np.where(place == places[step], (place - ((fine + 0.5) / 2 - 0.5)) ** 2, np.inf)
    return places, distances


def majority(labels: Array) -> Array:
    """The label that most of the 3 x 3 cells around have, of equals the cell's own."""
    padded = np.pad(labels, 1, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*labels.shape, 9).transpose(2, 0, 1)
    votes = np.stack([2 * (near == label).sum(axis=0) + (label == labels) for label in near])
    return np.take_along_axis(near, votes.argmax(axis=0)[None], axis=0)[0]


def refine(labels: Array, times: int) -> Array:
    """A finer grid on which a cell takes the label that weighs most, in bilinear weights, among its nearest four."""
    (top, bottom, down), (left, right, across) = (between(cells, times) for cells in labels.shape)
    nearest = np.stack([labels[np.ix_(row, column)] for row in (top, bottom) for column in (left, right)])
    weight = np.stack([y[:, None] * x for y in (1 - down, down) for x in (1 - across, across)])
    votes = np.stack([np.where(nearest == label, weight, 0).sum(axis=0) for label in nearest])
    return np.take_along_axis(nearest, votes.argmax(axis=0)[None], axis=0)[0]


def between(cells: int, times: int) -> tuple[Array, Array, Array]:
    """The two cells around the center of each fine cell, and the weight of the second."""
    center = np.clip((np.arange(times * cells) + 0.5) / times - 0.5, 0, cells - 1)
    low = np.floor(center).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), center - low


def measure(labels: Array) -> ImageRegions:
    """Number the labels that occur 0..n-1 and take their boxes and areas."""
    areas = np.bincount(labels.ravel())
    region_map = (np.cumsum(areas > 0) - 1)[labels]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(region_map + 1)]
    return ImageRegions(region_map, np.array(boxes), areas[areas > 0])
