"""Linkage matrices, compared with SciPy's."""

import warnings

import numpy as np
import pytest
import torch
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import pdist

from dendrograms import assert_same, assert_same_linkage, observations
from ovsr_gpu import hierarchy

METHODS = ["single", "complete", "average", "weighted", "ward"]
METRICS = ["euclidean", "sqeuclidean", "cityblock", "chebyshev", "cosine", "correlation"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [2, 3, 7, 64, 200])
def test_linkage_equals_scipy(method, points):
    X = observations(points, seed=points)
    expected = scipy_hierarchy.linkage(X, method)
    assert_same_linkage(hierarchy.linkage(X, method), expected)
    assert_same_linkage(hierarchy.linkage(pdist(X), method), expected)


@pytest.mark.parametrize("method", ["single", "complete", "average", "weighted"])
@pytest.mark.parametrize("metric", METRICS)
def test_linkage_with_a_metric(method, metric):
    X = observations(50, seed=5)
    # 1 - cosine keeps only a few digits of a small distance.
    atol = 1e-15 if metric in ("cosine", "correlation") else 0
    assert_same_linkage(hierarchy.linkage(X, method, metric), scipy_hierarchy.linkage(X, method, metric), atol)


def test_linkage_with_a_function_as_metric():
    def metric(u, v):
        return np.abs(u - v).max() ** 1.5

    X = observations(12, seed=6)
    expected = scipy_hierarchy.linkage(X, "average", metric)
    assert_same_linkage(hierarchy.linkage(X, "average", metric), expected)
    found = hierarchy.linkage(torch.tensor(X), "average", lambda u, v: (u - v).abs().max() ** 1.5)
    assert_same_linkage(found.numpy(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_linkage_with_ties(method):
    """With ties the tree is not unique, but the heights of single linkage are."""
    X = np.random.default_rng(0).integers(0, 3, (40, 2))
    found = hierarchy.linkage(X, method)
    assert hierarchy.is_valid_linkage(found) and hierarchy.is_monotonic(found)
    if method == "single":
        np.testing.assert_allclose(found[:, 2], scipy_hierarchy.linkage(X, method)[:, 2], rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_linkage_in_float32(method):
    X = observations(40, seed=7).astype(np.float32)
    found = hierarchy.linkage(X, method, dtype="float32")
    assert found.dtype == np.float32 and hierarchy.is_valid_linkage(found)
    np.testing.assert_allclose(found, scipy_hierarchy.linkage(X, method), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
def test_fclusterdata_equals_scipy(method, metric):
    X = observations(40, seed=8)
    options = {"metric": metric, "method": method}
    for criterion, t in (("inconsistent", 1.1), ("maxclust", 7)):
        expected = scipy_hierarchy.fclusterdata(X, t, criterion, **options)
        assert_same(hierarchy.fclusterdata(X, t, criterion, **options), expected)


def test_readonly_strided_and_nested_inputs():
    X = observations(9, seed=11)
    readonly = X[::-1].copy()[::-1]
    readonly.flags.writeable = False
    expected = hierarchy.linkage(X, "ward")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(hierarchy.linkage(readonly, "ward"), expected)
        assert_same(hierarchy.linkage(X.tolist(), "ward"), expected)
        requiring_grad = torch.tensor(X, requires_grad=True)
        assert_same(hierarchy.linkage(requiring_grad, "ward").numpy(), expected)
    assert_same(hierarchy.linkage([[0, 0], [3, 4], [9, 9]]), scipy_hierarchy.linkage([[0, 0], [3, 4], [9, 9]]))


def test_warns_if_observations_look_like_distances():
    distances = [[0, 1, 2], [1, 0, 3], [2, 3, 0]]
    with pytest.warns(hierarchy.ClusterWarning, match="condensed") as caught:
        hierarchy.linkage(distances)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hierarchy.linkage([[0, 1, 2], [1, 0, 3], [2, 3, 0.5]])
