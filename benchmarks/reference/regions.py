"""Regions: connected components of the clusters, with small ones merged into neighbors, at full resolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from ovsr_gpu.config import RegionConfig
from reference.arrays import Array

UPSAMPLING = 4  # resolution of the boundaries relative to the grid
VOTE_RADIUS, SIGMA_POSITION, SIGMA_COLOR = 2, 1.5, 0.1  # of the votes on boundaries: cells, cells, color from 0 to 1


class ImageRegions(NamedTuple):
    """The regions of an image: region_map `[H, W]`, boxes `[n, 4]` (x0, y0, x1, y1) and areas `[n]`, in pixels."""

    region_map: Array
    boxes: Array
    areas: Array


def extract_regions(labels: Array, image: Array, config: RegionConfig) -> ImageRegions:
    """Return the regions of clusters `[h, w]` in an image `[H, W, 3]` uint8."""
    components = absorb_small(connected_components(labels), config.min_area * labels.size)
    if config.boundaries == "image":
        fine = refine(majority(joint_bilateral(components, image)), UPSAMPLING // 2)
    else:
        fine = refine(components, UPSAMPLING)
    return measure(enlarge(fine, image.shape[:2]))


def connected_components(labels: Array) -> Array:
    components = np.zeros(labels.shape, np.int64)
    num_components = 0
    for label in np.unique(labels):
        component, count = ndimage.label(labels == label)
        components[component > 0] = component[component > 0] + num_components
        num_components += count
    return number_by_first(components)


def number_by_first(labels: Array) -> Array:
    """Renumber labels 0, 1, ... in the order of their first cells."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].reshape(labels.shape)


def absorb_small(components: Array, min_cells: float) -> Array:
    """Merge the smallest component into the neighbor with the longest common border until all have `min_cells`."""
    count = components.max() + 1
    area = np.bincount(components.ravel())
    border = np.zeros((count, count), np.int64)
    for a, b in ((components[:, 1:], components[:, :-1]), (components[1:], components[:-1])):
        np.add.at(border, (a.ravel(), b.ravel()), 1)
    border += border.T
    np.fill_diagonal(border, 0)
    owner = np.arange(count)
    num_left = count
    while num_left > 1:
        smallest = np.argmin(np.where(area > 0, area, components.size + 1))
        if area[smallest] >= min_cells:
            break
        neighbor = np.argmax(border[smallest])
        owner[owner == smallest] = neighbor
        area[neighbor] += area[smallest]
        border[neighbor] += border[smallest]
        border[:, neighbor] += border[:, smallest]
        border[neighbor, neighbor] = area[smallest] = 0
        border[smallest] = border[:, smallest] = 0
        num_left -= 1
    return number_by_first(owner[components])


def enlarge(fine: Array, size: tuple[int, int]) -> Array:
    """Enlarge a fine grid to full size: each pixel takes the value of the fine cell under its center."""
    rows, columns = ((2 * np.arange(n) + 1) * cells // (2 * n) for n, cells in zip(size, fine.shape, strict=True))
    return fine[np.ix_(rows, columns)]


def joint_bilateral(labels: Array, image: Array) -> Array:
    """Double the resolution by a joint bilateral vote.

    The candidates are the labels of the 3 x 3 neighboring cells. The votes of surrounding cells are weighted by their
    distance in position and in color.
    """
    height, width = labels.shape
    fine = Image.fromarray(image).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    colors = np.asarray(fine, np.float32) / 255
    cells = colors.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    steps = np.arange(-VOTE_RADIUS, VOTE_RADIUS + 1)
    (rows, down), (columns, across) = (offset_cells(cells, steps) for cells in labels.shape)
    neighbors = {(y, x): labels[np.ix_(rows[y], columns[x])] for y in steps for x in steps}
    weight = {
        (y, x): np.exp(-(down[y][:, None] + across[x]) / (2 * SIGMA_POSITION**2))
        * np.exp(-((colors - cells[np.ix_(rows[y], columns[x])]) ** 2).sum(axis=2) / (2 * SIGMA_COLOR**2))
        for y in steps
        for x in steps
    }
    candidates = np.stack([neighbors[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1)])
    votes = [sum(np.where(neighbors[at] == label, weight[at], 0) for at in neighbors) for label in candidates]
    return np.take_along_axis(candidates, np.argmax(votes, axis=0)[None], axis=0)[0]


def offset_cells(cells: int, steps: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """Return, for each step, the cells at that offset from each fine cell, and their squared distances.

    The distance is infinite where the offset leaves the grid.
    """
    fine = np.arange(2 * cells)
    positions, distances = {}, {}
    for step in steps:
        position = fine // 2 + step
        positions[step] = position.clip(0, cells - 1)
        distances[step] = np.where(position == positions[step], (position - ((fine + 0.5) / 2 - 0.5)) ** 2, np.inf)
    return positions, distances


def majority(labels: Array) -> Array:
    """Return the majority label of the 3 x 3 neighboring cells; on a tie, the label of the cell itself."""
    padded = np.pad(labels, 1, mode="edge")
    neighbors = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*labels.shape, 9).transpose(2, 0, 1)
    votes = np.stack([2 * (neighbors == label).sum(axis=0) + (label == labels) for label in neighbors])
    return np.take_along_axis(neighbors, votes.argmax(axis=0)[None], axis=0)[0]


def refine(labels: Array, factor: int) -> Array:
    """Refine the grid: each cell takes the label with the largest bilinear weight among its nearest four cells."""
    (top, bottom, down), (left, right, across) = (between(cells, factor) for cells in labels.shape)
    nearest = np.stack([labels[np.ix_(row, column)] for row in (top, bottom) for column in (left, right)])
    weight = np.stack([y[:, None] * x for y in (1 - down, down) for x in (1 - across, across)])
    votes = np.stack([np.where(nearest == label, weight, 0).sum(axis=0) for label in nearest])
    return np.take_along_axis(nearest, votes.argmax(axis=0)[None], axis=0)[0]


def between(cells: int, factor: int) -> tuple[Array, Array, Array]:
    """Return the two cells around the center of each fine cell, and the weight of the second."""
    center = np.clip((np.arange(factor * cells) + 0.5) / factor - 0.5, 0, cells - 1)
    low = np.floor(center).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), center - low


def measure(labels: Array) -> ImageRegions:
    """Renumber the labels that occur to 0..n-1 and compute their boxes and areas."""
    areas = np.bincount(labels.ravel())
    region_map = (np.cumsum(areas > 0) - 1)[labels]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(region_map + 1)]
    return ImageRegions(region_map, np.array(boxes), areas[areas > 0])
