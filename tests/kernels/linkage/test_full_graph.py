import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from oracles import cut_by_sets, partition, union_distance
from ovsr_gpu.kernels.linkage import FULL_GRAPH_METHODS, distance_linkage, full_graph_linkage
from point_sets import ALL, TIED, constant, normal, smooth


def assert_scipy_tree(tree, points: torch.Tensor, method: str, rtol: float) -> None:
    """Assert that, for points without ties, merges, sizes and heights equal those of SciPy."""
    for image, observations in enumerate(points.double().numpy()):
        expected = linkage(observations, method)
        assert np.array_equal(tree.children[image], np.sort(expected[:, :2], axis=1))
        np.testing.assert_allclose(tree.heights[image], expected[:, 2], rtol=rtol)
        assert np.array_equal(tree.sizes[image], expected[:, 3])


def assert_greedy_tree(tree, points: torch.Tensor, method: str) -> None:
    """Assert that a tree with ties is a valid greedy tree.

    With ties the tree is not unique, so the tree is replayed: each merge must join two clusters of minimum distance,
    and its height must be that distance.
    """
    for image, observations in enumerate(points.double().numpy()):
        children, heights = tree.children[image].tolist(), tree.heights[image].double().numpy()
        count = len(observations)
        distance = np.full((2 * count - 1,) * 2, np.inf)
        distance[:count, :count] = squareform(pdist(observations))
        np.fill_diagonal(distance, np.inf)
        size = np.ones(2 * count - 1)
        scale = max(heights.max(initial=0), 1e-30)
        for merge, (a, b) in enumerate(children):
            new = count + merge
            assert a < b < new
            smallest, merged = distance.min(), distance[a, b]
            assert merged <= smallest * (1 + 1e-5) + 1e-6 * scale
            assert heights[merge] == pytest.approx(merged, rel=1e-5, abs=1e-6 * scale)
            row = union_distance(distance[a], distance[b], merged, size[a], size[b], size, method)
            row[[a, b, new]] = np.inf
            distance[new], distance[:, new] = row, row
            distance[[a, b]] = np.inf
            distance[:, [a, b]] = np.inf
            size[new] = size[a] + size[b]
            assert tree.sizes[image, merge] == size[new]


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("side", [2, 3, 7, 13])
def test_equals_scipy(method, side):
    points = normal(side, 5, seed=side, images=3)
    assert_scipy_tree(full_graph_linkage(points, method), points, method, 1e-12)
    assert_scipy_tree(full_graph_linkage(points.float(), method), points.float(), method, 1e-5)


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
def test_no_images(method):
    assert full_graph_linkage(torch.ones(0, 5, 3), method).children.shape == (0, 4, 2)


def test_one_point_has_no_merges():
    assert full_graph_linkage(torch.ones(2, 1, 3)).children.shape == (2, 0, 2)


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("count", [2, 3, 5, 97, 211])
@pytest.mark.parametrize("rank", [1, 2, 64])
def test_equals_scipy_for_any_count_and_rank(method, count, rank):
    points = normal(15, rank, seed=count)[:, :count]
    assert_scipy_tree(full_graph_linkage(points, method), points, method, 1e-12)


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
def test_equals_scipy_at_28_by_28(method):
    points = smooth(28, 16, seed=0).float()
    assert_scipy_tree(full_graph_linkage(points, method), points, method, 1e-5)


@pytest.mark.slow
def test_equals_scipy_at_56_by_56():
    points = smooth(56, 16, seed=1).float()
    assert_scipy_tree(full_graph_linkage(points, "ward"), points, "ward", 1e-5)


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", ALL)
def test_merges_have_minimum_distance(kind, method):
    points = kind(6, 3, seed=3, images=2)
    assert_greedy_tree(full_graph_linkage(points, method), points, method)
    assert_greedy_tree(full_graph_linkage(points.float(), method), points, method)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=24),
    method=st.sampled_from(FULL_GRAPH_METHODS),
)
def test_merges_have_minimum_distance_with_ties(rows, method):
    points = torch.tensor([rows], dtype=torch.float32)
    tree = full_graph_linkage(points, method)
    assert_greedy_tree(tree, points, method)
    if method == "single" and len(rows) > 1:  # ties do not change the cuts between two heights
        expected = linkage(points[0].double().numpy(), "single")
        np.testing.assert_allclose(tree.heights[0], expected[:, 2], rtol=1e-5, atol=1e-6)
        for clusters in range(1, len(rows)):
            merges = len(rows) - clusters
            if merges == len(rows) - 1 or tree.heights[0, merges] - tree.heights[0, merges - 1] > 1e-3:
                flat = fcluster(expected, float(tree.heights[0, merges - 1]) + 5e-4, "distance")
                assert partition(cut_by_sets(tree.children[0].tolist(), clusters)) == partition(flat)


def test_ties_merge_the_pair_with_the_smallest_xor():
    assert full_graph_linkage(constant(2, 2, 0), "ward").children[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    points = torch.tensor([[[0.0], [1.0], [2.0], [3.0]]])
    assert full_graph_linkage(points, "average").children[0].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
def test_distances_equal_scipy_and_are_not_modified(method):
    points = normal(8, 3, seed=5, images=2)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    original = distances.clone()
    assert_scipy_tree(distance_linkage(distances, method), points, method, 1e-12)
    assert torch.equal(distances, original)


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", [normal, *TIED])
def test_batch_equals_single_images(kind, method):
    batch = torch.cat([smooth(7, 3, 1), kind(7, 3, 2), normal(7, 3, 3)]).float()
    together = full_graph_linkage(batch, method)
    for image in range(3):
        for whole, alone in zip(together, full_graph_linkage(batch[image : image + 1], method), strict=True):
            assert torch.equal(whole[image], alone[0])


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
def test_masked_points_are_not_merged(method):
    points = normal(6, 3, seed=7, images=3)
    mask = torch.rand(3, 36, generator=torch.Generator().manual_seed(0)) > 0.4
    mask[2] = False
    tree = full_graph_linkage(points, method, mask=mask)
    for image in range(3):
        points_left = mask[image].nonzero()[:, 0]
        merges = max(len(points_left) - 1, 0)
        assert (tree.children[image, merges:] == -1).all()
        assert tree.heights[image, merges:].isinf().all()
        assert (tree.sizes[image, merges:] == 0).all()
        if merges:
            expected = linkage(points[image, points_left].numpy(), method)
            ids = np.concatenate([points_left.numpy(), 36 + np.arange(merges)])  # ids of the subset in the whole
            assert np.array_equal(tree.children[image, :merges], np.sort(ids[expected[:, :2].astype(int)], axis=1))
            np.testing.assert_allclose(tree.heights[image, :merges], expected[:, 2], rtol=1e-12)


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", ALL)
def test_early_stop_is_a_prefix_of_the_tree(kind, method):
    points = kind(6, 3, seed=1, images=3)
    whole = full_graph_linkage(points, method)
    stop_at = torch.tensor([1, 7, 36])
    stopped = full_graph_linkage(points, method, stop_at=stop_at)
    for image, clusters in enumerate(stop_at.tolist()):
        merges = 36 - clusters
        for all_merges, some in zip(whole, stopped, strict=True):
            assert torch.equal(all_merges[image, :merges], some[image, :merges])
        assert (stopped.children[image, merges:] == -1).all()


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("index", [0, 5])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_points_are_not_merged(value, index, method):
    points = normal(4, 2, seed=0)
    points[0, index, 1] = value
    tree = full_graph_linkage(points, method)
    expected = full_graph_linkage(points, method, mask=(torch.arange(16) != index)[None])
    assert all(torch.equal(a, b) for a, b in zip(tree, expected, strict=True))


def test_invalid_input():
    points = torch.zeros(1, 4, 2)
    with pytest.raises(ValueError, match="ward, complete, average, weighted, single; got 'centroid'"):
        full_graph_linkage(points, "centroid")
    with pytest.raises(ValueError, match="points must be a float32 or float64"):
        full_graph_linkage(points.long(), "ward")
    with pytest.raises(ValueError, match=r"distances must be .*\[B, P, P\]"):
        distance_linkage(points, "ward")
    with pytest.raises(ValueError, match="mask must be bool"):
        full_graph_linkage(points, mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 1 cluster; got 0"):
        full_graph_linkage(points, stop_at=0)
    with pytest.raises(ValueError, match="stop_at must be an int or int64"):
        full_graph_linkage(points, stop_at=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="auto, torch, triton; got 'numba'"):
        full_graph_linkage(points, backend="numba")
