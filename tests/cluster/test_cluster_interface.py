"""The interface of ovsr_gpu.cluster: its functions, scikit-learn's conventions, caching and errors."""

from __future__ import annotations

import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from sklearn import cluster as sklearn_cluster
from sklearn.base import clone
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.utils.estimator_checks import check_estimator

from ovsr_gpu.cluster import AgglomerativeClustering, linkage_tree, ward_tree

LINKAGES = ["ward", "complete", "average", "single"]


def normal(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(samples, 4))


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_builders_equal_scikit_learn(linkage, structured):
    X = normal(36)
    connectivity = grid_to_graph(6, 6) if structured else None
    for n_clusters in (None, 10):
        arguments = dict(connectivity=connectivity, n_clusters=n_clusters, return_distance=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error" if structured else "ignore")
            if linkage == "ward":
                ours, expected = ward_tree(X, **arguments), sklearn_cluster.ward_tree(X, **arguments)
            else:
                arguments["linkage"] = linkage
                ours, expected = linkage_tree(X, **arguments), sklearn_cluster.linkage_tree(X, **arguments)
        children, components, leaves, parents, distances = ours
        np.testing.assert_array_equal(children, expected[0])
        assert (components, leaves) == expected[1:3]
        np.testing.assert_array_equal(parents, expected[3])
        np.testing.assert_allclose(distances, expected[4])


@pytest.mark.parametrize("connectivity", [None, [[1]]])
def test_tree_of_one_sample_has_no_merges(connectivity):
    for linkage in LINKAGES[1:]:
        assert linkage_tree([[2.0, 1.0]], connectivity, linkage=linkage)[0].shape == (0, 2)
    assert ward_tree([2.0], connectivity=connectivity)[0].shape == (0, 2)


def test_memory_caches_the_tree(tmp_path):
    X, graph = normal(30), grid_to_graph(5, 6)
    first = AgglomerativeClustering(3, memory=str(tmp_path), connectivity=graph).fit(X)
    (entry,) = tmp_path.rglob("output.pkl")
    written = entry.stat().st_mtime_ns
    again = AgglomerativeClustering(4, memory=joblib.Memory(str(tmp_path), verbose=0), connectivity=graph).fit(X)
    assert [*tmp_path.rglob("output.pkl")] == [entry]
    assert entry.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.children_, again.children_)
    assert (first.labels_.max(), again.labels_.max()) == (2, 3)


def test_scikit_learn_estimator_checks():
    check_estimator(AgglomerativeClustering())
    estimator = AgglomerativeClustering(3, linkage="average", metric="l1", device="cpu")
    assert clone(estimator).get_params() == estimator.get_params()


def test_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(normal(10), columns=["a", "b", "c", "d"])
    assert AgglomerativeClustering().fit(frame).feature_names_in_.tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(n_clusters=None), "Exactly one of n_clusters and distance_threshold"),
        (dict(distance_threshold=1.0), "Exactly one of n_clusters and distance_threshold"),
        (dict(n_clusters=None, distance_threshold=1.0, compute_full_tree=False), "compute_full_tree must be True"),
        (dict(n_clusters=0), "'n_clusters' parameter"),
        (dict(n_clusters=11), "from 1 to the number of samples, 10; got 11"),
        (dict(metric="l1"), "'euclidean' or 'l2'; got 'l1'"),
        (dict(metric="furlongs"), "'metric' parameter"),
        (dict(linkage="centroid"), "'linkage' parameter"),
        (dict(linkage="single", metric="precomputed"), r"should be square, got matrix of shape \(10, 4\)"),
        (
            dict(linkage="single", metric="precomputed", connectivity=np.ones((10, 10))),
            r"should be square, got matrix of shape \(10, 4\)",
        ),
        (dict(linkage="average", metric=lambda X: X), r"should be square, got matrix of shape \(10, 4\)"),
        (dict(linkage="average", metric=lambda X: np.full((10, 10), np.inf)), "all distances must be finite"),
        (dict(connectivity=np.ones((4, 4))), r"each of 10 samples; got \(4, 4\)"),
        (dict(connectivity=np.full((10, 10), np.nan)), "Input contains NaN"),
        (dict(linkage="average", metric="canberra", connectivity=np.ones((10, 10))), "or a function; got 'canberra'"),
        (dict(device="abacus"), "device must be"),
    ],
)
def test_invalid_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        AgglomerativeClustering(**parameters).fit(normal(10))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rejects_nonfinite_data(value):
    X = normal(10)
    X[3, 1] = value
    for fit in (AgglomerativeClustering().fit, ward_tree, linkage_tree):
        with pytest.raises(ValueError, match=r"Input (X )?contains"):
            fit(X)


def test_invalid_data():
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        AgglomerativeClustering().fit(normal(1))
    with pytest.raises(ValueError, match="zero vectors"):
        AgglomerativeClustering(linkage="average", metric="cosine").fit([[0, 1], [0, 0]])
    with pytest.raises(ValueError, match="'complete', 'average' or 'single'; got 'ward'"):
        linkage_tree(normal(5), linkage="ward")
    with pytest.raises(ValueError, match="from 1 to the number of samples, 5; got 6"):
        ward_tree(normal(5), connectivity=np.ones((5, 5)), n_clusters=6)
    with pytest.warns(UserWarning, match="the whole tree is built"):
        assert len(ward_tree(normal(5), n_clusters=3)[0]) == 4


def test_import_error_without_scikit_learn():
    program = "import sys; sys.modules['sklearn'] = None; import ovsr_gpu.cluster"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "ImportError: ovsr_gpu.cluster needs scikit-learn 1.6 or newer: pip install scikit-learn" in done.stderr
