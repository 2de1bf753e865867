"""Clusters of ovsr_gpu.cluster, compared with those of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.spatial.distance import cdist
from sklearn import cluster as sklearn_cluster
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import kneighbors_graph

from ovsr_gpu.cluster import AgglomerativeClustering, linkage_tree

LINKAGES = ["ward", "complete", "average", "single"]
METRICS = ["euclidean", "l2", "l1", "manhattan", "cityblock", "cosine"]


def normal(samples: int, features: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, features))


def smooth(side: int, features: int, seed: int) -> np.ndarray:
    """Return a grid whose neighbors are similar, like pixels: `[side * side, features]`."""
    noise = np.random.default_rng(seed).normal(size=(side, side, features))
    return ndimage.gaussian_filter(noise, (2, 2, 0)).reshape(-1, features)


def islands(samples: int, seed: int = 0) -> sparse.csr_array:
    """Return a graph of a few edges, with many components."""
    return sparse.csr_array(np.random.default_rng(seed).random((samples, samples)) < 0.6 / samples)


def assert_equals_scikit_learn(X, rtol: float = 1e-10, **parameters) -> AgglomerativeClustering:
    """Fit both estimators and compare all their attributes; rtol is that of the distances."""
    expected = sklearn_cluster.AgglomerativeClustering(compute_distances=True, **parameters).fit(X)
    ours = AgglomerativeClustering(compute_distances=True, **parameters).fit(X)
    np.testing.assert_array_equal(ours.children_, expected.children_, strict=True)
    np.testing.assert_array_equal(ours.labels_, expected.labels_, strict=True)
    np.testing.assert_allclose(ours.distances_, expected.distances_, rtol=rtol, strict=True)
    for name in ("n_clusters_", "n_leaves_", "n_connected_components_", "n_features_in_"):
        assert getattr(ours, name) == getattr(expected, name)
    assert vars(ours).keys() == vars(expected).keys() | {"device"}
    return ours


@pytest.mark.parametrize("n_clusters", [1, 2, 13, 49])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_without_connectivity(linkage, n_clusters):
    assert_equals_scikit_learn(normal(49), linkage=linkage, n_clusters=n_clusters)


@pytest.mark.parametrize("compute_full_tree", ["auto", True, False])
@pytest.mark.parametrize("kind", ["normal", "smooth"])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_with_connectivity(linkage, kind, compute_full_tree):
    X = normal(196, 3) if kind == "normal" else smooth(14, 3, seed=0)
    parameters = dict(linkage=linkage, connectivity=grid_to_graph(14, 14), compute_full_tree=compute_full_tree)
    for n_clusters in (1, 7, 150):
        assert_equals_scikit_learn(X, n_clusters=n_clusters, **parameters)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("linkage", LINKAGES[1:])
def test_metrics(linkage, metric, structured):
    connectivity = kneighbors_graph(normal(60), 8) if structured else None
    assert_equals_scikit_learn(normal(60), linkage=linkage, metric=metric, connectivity=connectivity, n_clusters=9)


@pytest.mark.parametrize("metric", ["chebyshev", "braycurtis", "correlation", "sqeuclidean"])
@pytest.mark.parametrize("linkage", LINKAGES[1:])
def test_scipy_metrics(linkage, metric):
    assert_equals_scikit_learn(np.abs(normal(40)), linkage=linkage, metric=metric, n_clusters=5)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("linkage", LINKAGES[1:])
def test_precomputed(linkage, structured):
    connectivity = grid_to_graph(6, 6) if structured else None
    distances = pairwise_distances(normal(36), metric="l1")
    assert_equals_scikit_learn(
        distances, linkage=linkage, metric="precomputed", connectivity=connectivity, n_clusters=4
    )


@pytest.mark.parametrize("linkage", LINKAGES[1:])
def test_metric_as_function(linkage):
    def matrix(X):
        return cdist(X, X, "cityblock")

    def pair(a, b):
        return np.abs(a - b).max()

    X = normal(30)
    assert_equals_scikit_learn(X, linkage=linkage, metric=matrix, n_clusters=4)
    assert_equals_scikit_learn(X, linkage=linkage, metric=pair, connectivity=grid_to_graph(5, 6), n_clusters=4)


def test_asymmetric_distances():
    """Without a connectivity, the upper triangle is used."""
    distances = np.random.default_rng(0).random((20, 20))
    assert_equals_scikit_learn(distances, linkage="average", metric="precomputed", n_clusters=3)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 7),
    width=st.integers(2, 7),
    features=st.integers(1, 3),
    levels=st.sampled_from([1, 2, 4]),
    scale=st.sampled_from([1.0, 0.1]),
    whole=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_ward_with_connectivity_and_ties(height, width, features, levels, scale, whole, seed):
    """Constant, binary and few-level data: the same merges, labels and distances."""
    X = scale * np.random.default_rng(seed).integers(levels, size=(height * width, features))
    graph = grid_to_graph(height, width)
    n_clusters = 1 + seed % (height * width - 1)
    assert_equals_scikit_learn(X, rtol=1e-15, connectivity=graph, n_clusters=n_clusters, compute_full_tree=whole)


@settings(max_examples=40, deadline=None)
@given(levels=st.sampled_from([1, 2, 5]), linkage=st.sampled_from(LINKAGES), seed=st.integers(0, 1000))
def test_trees_are_complete_with_ties(levels, linkage, seed):
    """With ties, other trees are not unique, but they join every sample once and have the requested clusters."""
    X = np.random.default_rng(seed).integers(levels, size=(25, 2))
    for connectivity in (None, grid_to_graph(5, 5)):
        ours = AgglomerativeClustering(6, linkage=linkage, connectivity=connectivity).fit(X)
        assert sorted(ours.children_.flatten().tolist()) == list(range(48))
        assert set(ours.labels_) == set(range(6))
        if linkage == "single":
            expected = sklearn_cluster.linkage_tree(X, connectivity, linkage="single", return_distance=True)
            ours = linkage_tree(X, connectivity, linkage="single", return_distance=True)
            np.testing.assert_allclose(ours[-1], expected[-1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_connectivity_with_several_components(linkage, metric):
    metric = "l2" if linkage == "ward" else metric
    with pytest.warns(UserWarning, match="Completing it to avoid stopping the tree early"):
        ours = assert_equals_scikit_learn(
            normal(50), linkage=linkage, metric=metric, connectivity=islands(50), n_clusters=8
        )
    assert ours.n_connected_components_ > 10


def test_components_of_equal_points_join_at_the_same_samples():
    X = np.random.default_rng(0).integers(2, size=(40, 2))
    with pytest.warns(UserWarning, match="Completing it"):
        assert_equals_scikit_learn(X, connectivity=islands(40), n_clusters=5)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_distance_threshold(linkage, structured):
    X = normal(64)
    connectivity = grid_to_graph(8, 8) if structured else None
    fitted = AgglomerativeClustering(linkage=linkage, connectivity=connectivity, compute_distances=True).fit(X)
    heights = np.sort(fitted.distances_)
    for threshold in (0, heights[:2].mean(), heights[20:22].mean(), 2 * heights[-1]):
        assert_equals_scikit_learn(
            X, n_clusters=None, distance_threshold=threshold, linkage=linkage, connectivity=connectivity
        )


def test_a_merge_at_the_threshold_is_not_made():
    X = [[0.0], [1.0], [3.0]]
    ours = AgglomerativeClustering(None, linkage="single", distance_threshold=2.0).fit(X)
    assert ours.n_clusters_ == 2
    assert ours.distances_.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "matrix_type",
    [np.asarray, np.ndarray.tolist, sparse.csr_array, sparse.coo_matrix, sparse.lil_array, sparse.csc_array],
)
def test_connectivity_types(matrix_type):
    """An entry on either side of the diagonal is an edge; entries on the diagonal are ignored."""
    assert_equals_scikit_learn(
        normal(25), connectivity=matrix_type(np.tril(grid_to_graph(5, 5).toarray())), n_clusters=4
    )


def test_stored_zeros_are_no_edges():
    graph = grid_to_graph(5, 5, dtype=np.float64).tocsr()
    graph.data[::7] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert_equals_scikit_learn(normal(25), connectivity=graph, n_clusters=4)


def test_connectivity_as_function():
    def neighbors(X):
        assert isinstance(X, np.ndarray)
        return kneighbors_graph(X, 6)

    assert_equals_scikit_learn(normal(40), connectivity=neighbors)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_all_dtypes_are_computed_in_float64(dtype, linkage, structured):
    X = (10 * normal(36)).astype(dtype)
    connectivity = grid_to_graph(6, 6) if structured else None
    parameters = dict(linkage=linkage, connectivity=connectivity, compute_distances=True)
    ours, double = (AgglomerativeClustering(3, **parameters).fit(data) for data in (X, X.astype(np.float64)))
    assert ours.distances_.dtype == np.float64
    np.testing.assert_array_equal(ours.children_, double.children_)
    np.testing.assert_array_equal(ours.distances_, double.distances_)
    np.testing.assert_array_equal(ours.labels_, double.labels_)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_tensors_give_the_labels_of_arrays(linkage):
    X = normal(30)
    expected = AgglomerativeClustering(3, linkage=linkage).fit_predict(X)
    for tensor in (torch.from_numpy(X), torch.from_numpy(X).requires_grad_()):
        labels = AgglomerativeClustering(3, linkage=linkage, device="cpu").fit_predict(tensor)
        assert isinstance(labels, np.ndarray)
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_cuda_equals_scikit_learn(linkage, structured):
    X = normal(400)
    parameters = dict(linkage=linkage, connectivity=grid_to_graph(20, 20) if structured else None)
    expected = sklearn_cluster.AgglomerativeClustering(9, **parameters).fit(X)
    for ours in (
        AgglomerativeClustering(9, device="cuda", **parameters).fit(X),
        AgglomerativeClustering(9, **parameters).fit(torch.from_numpy(X).cuda()),
    ):
        np.testing.assert_array_equal(ours.children_, expected.children_)
        np.testing.assert_array_equal(ours.labels_, expected.labels_)
