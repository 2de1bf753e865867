"""Linkage matrices for the tests, and assertions of equality."""

import numpy as np
from scipy.cluster import hierarchy as scipy_hierarchy


def observations(points: int, seed: int, images: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*images, points, 4))


def random_linkage(points: int, seed: int, levels: int | None, monotonic: bool) -> np.ndarray:
    """Return a random tree with children in random order; heights are random, or tied if `levels` is given."""
    rng = np.random.default_rng(seed)
    size, height, roots = dict.fromkeys(range(points), 1), dict.fromkeys(range(points), 0.0), list(range(points))
    rows = []
    for node in range(points, 2 * points - 1):
        a, b = (roots.pop(rng.integers(len(roots))) for _ in range(2))
        height_above = float(rng.random() if levels is None else rng.integers(levels))
        size[node], height[node] = size[a] + size[b], height_above + monotonic * max(height[a], height[b])
        rows.append([a, b, height[node], size[node]])
        roots.append(node)
    return np.array(rows)


MONOTONIC = {
    "two": scipy_hierarchy.linkage(observations(2, 0)),
    "three": scipy_hierarchy.linkage(observations(3, 0), "average"),
    "random": scipy_hierarchy.linkage(observations(60, 1), "ward"),
    "chain": scipy_hierarchy.linkage(np.cumsum(np.arange(70))[:, None], "single"),
    "tied": scipy_hierarchy.linkage(np.random.default_rng(0).integers(0, 3, (40, 2)), "complete"),
    "constant": scipy_hierarchy.linkage(np.full((20, 2), 0.1), "average"),
    "equally far": scipy_hierarchy.linkage(np.full(45, 0.1), "weighted"),
    **{f"unsorted {seed}": random_linkage(25, seed, None, monotonic=True) for seed in range(3)},
    **{f"unsorted and tied {seed}": random_linkage(25, seed, 2, monotonic=True) for seed in range(3)},
}
WITH_INVERSIONS = {
    "centroid": scipy_hierarchy.linkage(observations(60, 3), "centroid"),
    "median": scipy_hierarchy.linkage(observations(60, 4), "median"),
    **{f"falling {seed}": random_linkage(25, seed, None, monotonic=False) for seed in range(3)},
    **{f"falling and tied {seed}": random_linkage(25, seed, 3, monotonic=False) for seed in range(3)},
}
TREES = MONOTONIC | WITH_INVERSIONS


def broken(*changes: tuple[int, int, float]) -> np.ndarray:
    """Return a linkage matrix of six observations with changed entries (row, column, value)."""
    Z = scipy_hierarchy.linkage(observations(6, seed=12))
    for row, column, value in changes:
        Z[row, column] = value
    return Z


def assert_same(found, expected):
    assert type(found) is type(expected) and found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def assert_same_linkage(found, expected, atol=0.0):
    assert type(found) is np.ndarray and found.dtype == np.float64
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=1e-12, atol=atol)
