"""Hierarchical clustering of the latents, the number of clusters, and the cut."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import ward_tree

from ovsr_gpu.config import ClusteringConfig
from reference.arrays import Array

SMALLEST_FIRST_SINGULAR_VALUE = 1e-4  # RMS per pixel; below it, the variance of an image is only rounding


def merge_tree(components: Array, grid: tuple[int, int], config: ClusteringConfig) -> tuple[Array, Array]:
    """Return the children `[P-1, 2]` and heights `[P-1]` of the merges, of all pairs of cells or of adjacent cells."""
    points = components.astype(np.float64)
    if config.connectivity == "full":
        tree = linkage(points, config.linkage)
        return tree[:, :2].astype(np.int64), tree[:, 2]
    graph = adjacent_cells(*grid, corners=config.connectivity == "8")
    children, _, _, _, heights = ward_tree(points, connectivity=graph, return_distance=True)
    return children, heights


def adjacent_cells(height: int, width: int, corners: bool) -> coo_array:
    cells = np.arange(height * width).reshape(height, width)
    pairs = [(cells[:, 1:], cells[:, :-1]), (cells[1:], cells[:-1])]
    if corners:
        pairs += [(cells[1:, 1:], cells[:-1, :-1]), (cells[1:, :-1], cells[:-1, 1:])]
    a, b = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    ends = (np.concatenate([a, b]), np.concatenate([b, a]))
    return coo_array((np.ones(2 * len(a)), ends), shape=(cells.size, cells.size))


def cluster_count(singular_values: Array, heights: Array, shape: tuple[int, int], config: ClusteringConfig) -> int:
    """Return the number of clusters; `shape` is the shape of the pixel-feature matrix."""
    pixels = shape[0]
    if singular_values[0] <= SMALLEST_FIRST_SINGULAR_VALUE * np.sqrt(pixels):
        return 1
    count = unrounded_count(singular_values.astype(np.float64), heights, shape, config)
    return int(np.clip(np.rint(count), 1, min(config.max_clusters, pixels)))


def unrounded_count(sigma: Array, heights: Array, shape: tuple[int, int], config: ClusteringConfig) -> float:
    value = config.effective_count_parameter
    variance = np.square(sigma)
    match config.count_rule:
        case "merge_cost":
            return 1 + np.count_nonzero(np.square(heights) / 2 > value * variance.sum())
        case "effective_rank":
            fraction = sigma[sigma > 0] / sigma.sum()
            return value * np.exp(-np.sum(fraction * np.log(fraction)))
        case "participation_ratio":
            return value * variance.sum() ** 2 / np.square(variance).sum()
        case "energy":
            cumulative = np.cumsum(variance)
            return 2 + np.count_nonzero(cumulative < value * cumulative[-1])
        case "ratio_gap":
            upper = sigma[: len(sigma) // 2 + 1]
            return 1 + value * (1 + np.argmax(upper[:-1] / np.maximum(upper[1:], 1e-30)))
        case "hard_threshold":
            beta = min(shape) / max(shape)
            omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
            return 1 + value * np.count_nonzero(sigma > omega * np.median(sigma))
        case "elbow":
            line = np.linspace(sigma[0], sigma[-1], len(sigma))
            return 1 + value * np.argmax(line - sigma)
        case "fixed":
            return value


def cut(children: Array, count: int) -> Array:
    """Return the cluster `[P]` of each cell when `count` clusters are left."""
    pixels = len(children) + 1
    merged = children[: pixels - count]
    parents = pixels + np.arange(len(merged))
    nodes = pixels + len(merged)
    graph = coo_array((np.ones(2 * len(merged)), (merged.ravel(), np.repeat(parents, 2))), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][:pixels]
