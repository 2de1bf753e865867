"""Flat clusters and statistics of linkage matrices, compared with SciPy's."""

import numpy as np
import pytest
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import pdist

from dendrograms import MONOTONIC, TREES, WITH_INVERSIONS, assert_same, observations
from ovsr_gpu import hierarchy

CRITERIA = ["inconsistent", "distance", "monocrit"]

each_tree = pytest.mark.parametrize("Z", TREES.values(), ids=TREES.keys())
each_monotonic_tree = pytest.mark.parametrize("Z", MONOTONIC.values(), ids=MONOTONIC.keys())


@each_tree
def test_fcluster_equals_scipy(Z):
    merges = len(Z)
    R = scipy_hierarchy.inconsistent(Z, 3)
    # Not monotonic, which SciPy allows.
    monocrit = np.random.default_rng(merges).integers(0, 9, merges) / 8
    thresholds = [-1, 0, 0.5, 1, 100, np.inf, np.nan, *Z[::5, 2], *R[::5, 3], *scipy_hierarchy.inconsistent(Z)[::5, 3]]
    for t in thresholds:
        for criterion in CRITERIA:
            options = {"criterion": criterion, "monocrit": monocrit}
            assert_same(hierarchy.fcluster(Z, t, **options), scipy_hierarchy.fcluster(Z, t, **options))
        assert_same(hierarchy.fcluster(Z, t, R=R), scipy_hierarchy.fcluster(Z, t, R=R))
        assert_same(hierarchy.fcluster(Z, t, depth=4), scipy_hierarchy.fcluster(Z, t, depth=4))
    for t in [*range(1, merges + 3), 2.5]:
        for criterion in ("maxclust", "maxclust_monocrit"):
            options = {"criterion": criterion, "monocrit": monocrit}
            assert_same(hierarchy.fcluster(Z, t, **options), scipy_hierarchy.fcluster(Z, t, **options))


@each_monotonic_tree
def test_cut_tree_equals_scipy(Z):
    points = len(Z) + 1
    assert_same(hierarchy.cut_tree(Z), scipy_hierarchy.cut_tree(Z))
    for clusters in (
        0,
        1,
        2,
        2.5,
        points - 1,
        points,
        points + 3,
        [1],
        [points - 1, 1, points - 1],
        np.arange(1, points),
    ):
        assert_same(hierarchy.cut_tree(Z, clusters), scipy_hierarchy.cut_tree(Z, clusters))
    for height in (-1.0, 0.0, *Z[::3, 2], 1e9, Z[-2:, 2] + 1e-3):
        assert_same(hierarchy.cut_tree(Z, height=height), scipy_hierarchy.cut_tree(Z, height=height))


def test_cut_tree_where_scipy_is_wrong():
    """SciPy issues 9818 (a column of P clusters that is not the first) and 8063 (inversions)."""
    found = hierarchy.cut_tree(MONOTONIC["random"], n_clusters=[2, 60])
    assert found[:, 1].tolist() == list(range(60))
    with pytest.raises(ValueError, match="below their children"):
        hierarchy.cut_tree(WITH_INVERSIONS["centroid"])


@each_tree
def test_leaders_equal_scipy(Z):
    for t in range(1, len(Z) + 2):
        T = scipy_hierarchy.fcluster(Z, t, "maxclust")
        for found, expected in zip(hierarchy.leaders(Z, T), scipy_hierarchy.leaders(Z, T), strict=True):
            assert_same(found, expected)


def test_leaders_rejects_clusters_that_are_no_subtrees():
    Z = MONOTONIC["random"]
    T = np.random.default_rng(0).integers(1, 5, 60).astype(np.int32)
    with pytest.raises(ValueError) as scipy_error:
        scipy_hierarchy.leaders(Z, T)
    node = str(scipy_error.value).split("node ")[1].split()[0]
    with pytest.raises(ValueError, match=f"node {node} joins"):
        hierarchy.leaders(Z, T)


@each_tree
def test_statistics_equal_scipy(Z):
    assert_same(hierarchy.maxdists(Z), scipy_hierarchy.maxdists(Z))
    assert_same(hierarchy.cophenet(Z), scipy_hierarchy.cophenet(Z))
    for depth in (0, 1, 2, 3, 5, 100):
        assert_same(hierarchy.inconsistent(Z, depth), scipy_hierarchy.inconsistent(Z, depth))
    assert_same(hierarchy.is_monotonic(Z), scipy_hierarchy.is_monotonic(Z))
    assert hierarchy.num_obs_linkage(Z) == len(Z) + 1


def test_cophenetic_correlation():
    Y = pdist(observations(30, seed=9))
    Z = scipy_hierarchy.linkage(Y, "average")
    (found, distances), (expected, _) = hierarchy.cophenet(Z, Y), scipy_hierarchy.cophenet(Z, Y)
    assert type(found) is type(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert_same(distances, scipy_hierarchy.cophenet(Z))
