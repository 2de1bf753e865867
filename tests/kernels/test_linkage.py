import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import ward_tree

from oracles import cut_by_sets, partition, ward_by_heap
from ovsr_gpu.kernels.linkage import full_graph_linkage, grid_edges, pixel_graph_ward

CPU = torch.device("cpu")
LINKAGES = ["ward", "complete", "average", "single"]


def normal(pixels: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    return torch.randn(images, pixels, rank, generator=torch.Generator().manual_seed(seed))


def smooth(side: int, rank: int, seed: int) -> torch.Tensor:
    """A grid whose neighbours resemble each other, as pixels do: `[1, side * side, rank]`."""
    coarse = normal(16, rank, seed).mT.reshape(1, rank, 4, 4)
    grid = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (grid + 0.05 * normal(side * side, rank, seed + 1).mT.reshape(grid.shape)).flatten(2).mT.contiguous()


@pytest.mark.parametrize("method", LINKAGES)
@pytest.mark.parametrize("pixels", [2, 3, 7, 64, 169])
def test_full_graph_is_scipys_tree(method, pixels):
    points = normal(pixels, 5, seed=pixels, images=3)
    children, heights = full_graph_linkage(points, method)
    for image in range(3):
        expected = linkage(points[image].double().numpy(), method)
        assert np.array_equal(children[image].numpy(), np.sort(expected[:, :2], axis=1))
        np.testing.assert_allclose(heights[image], expected[:, 2], rtol=1e-5)


@pytest.mark.parametrize("method", LINKAGES)
def test_full_graph_float64_heights(method):
    points = normal(100, 4, seed=0).double()
    np.testing.assert_allclose(full_graph_linkage(points, method)[1][0], linkage(points[0], method)[:, 2], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=24),
    method=st.sampled_from(LINKAGES),
)
def test_full_graph_with_ties(rows, method):
    """Ties leave the tree open, but every cut at a gap between heights is the same partition for single linkage, and
    every tree joins all pixels once, children before parents."""
    points = torch.tensor([rows], dtype=torch.float32)
    children, heights = full_graph_linkage(points, method)
    merges = len(rows) - 1
    assert sorted(children.flatten().tolist()) == list(range(2 * merges))
    assert all(max(pair) < len(rows) + m for m, pair in enumerate(children[0].tolist()))
    assert bool((heights.diff(dim=1) >= 0).all())
    if method == "single" and merges:
        expected = linkage(points[0].double().numpy(), "single")
        np.testing.assert_allclose(heights[0], expected[:, 2], rtol=1e-5, atol=1e-6)
        for clusters in range(1, len(rows) + 1):
            cut = len(rows) - clusters
            if 0 < cut <= merges and (cut == merges or heights[0, cut] - heights[0, cut - 1] > 1e-3):
                threshold = float(heights[0, cut - 1]) + 5e-4
                flat = fcluster(expected, threshold, "distance")
                assert partition(cut_by_sets(children[0].tolist(), clusters)) == partition(flat)


@pytest.mark.parametrize("method", LINKAGES)
def test_full_graph_of_equal_points(method):
    children, heights = full_graph_linkage(torch.full((2, 30, 3), 0.3), method)
    assert sorted(children[0].flatten().tolist()) == list(range(58))
    assert not heights.any()


@pytest.mark.parametrize("connectivity", ["4", "8"])
@pytest.mark.parametrize("side", [2, 3, 7, 14])
@pytest.mark.parametrize("kind", [normal, smooth])
def test_pixel_graph_is_scikit_learns_tree(connectivity, side, kind):
    for seed in range(3):
        points = normal(side * side, 6, seed) if kind is normal else smooth(side, 6, seed)
        edges = grid_edges(side, side, connectivity, CPU)
        graph = sparse.coo_matrix((np.ones(len(edges)), edges.T.numpy()), shape=(side * side,) * 2)
        expected, *_, distances = ward_tree(
            points[0].double().numpy(), connectivity=(graph + graph.T).tocsr(), return_distance=True
        )
        children, costs = pixel_graph_ward(points, edges)
        assert np.array_equal(children[0].numpy(), np.sort(expected, axis=1))
        np.testing.assert_allclose((2 * costs[0]).sqrt(), distances, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    connectivity=st.sampled_from(["4", "8"]),
    levels=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
def test_pixel_graph_is_the_greedy_order_with_ties(height, width, connectivity, levels, seed):
    """Few grey levels make ties everywhere; single-channel data keeps float32 sums independent of their order."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(0, levels, (1, height * width, 1), generator=generator).float()
    edges = grid_edges(height, width, connectivity, CPU)
    children, costs = pixel_graph_ward(points, edges)
    expected, expected_costs = ward_by_heap(points[0].numpy(), edges.tolist())
    assert [tuple(pair) for pair in children[0].tolist()] == expected
    assert costs[0].tolist() == [float(cost) for cost in expected_costs]


@pytest.mark.parametrize("position", range(3))
def test_every_position_of_a_batch_gives_the_tree_of_the_image_alone(position):
    batch = torch.cat([smooth(9, 5, 1), torch.zeros(1, 81, 5), normal(81, 5, 2)])
    edges = grid_edges(9, 9, "4", CPU)
    together = pixel_graph_ward(batch, edges), *(full_graph_linkage(batch, method) for method in LINKAGES)
    one = batch[position : position + 1]
    alone = pixel_graph_ward(one, edges), *(full_graph_linkage(one, method) for method in LINKAGES)
    for (children, heights), (own_children, own_heights) in zip(together, alone, strict=True):
        assert torch.equal(children[position], own_children[0])
        assert torch.equal(heights[position], own_heights[0])


def test_one_pixel_has_no_merges():
    point = torch.ones(2, 1, 3)
    assert pixel_graph_ward(point, grid_edges(1, 1, "4", CPU))[0].shape == (2, 0, 2)
    assert full_graph_linkage(point, "ward")[0].shape == (2, 0, 2)


def test_bad_input():
    points = torch.zeros(1, 4, 2)
    edges = grid_edges(2, 2, "4", CPU)
    with pytest.raises(ValueError, match="one connected graph"):
        pixel_graph_ward(points, edges[:1])
    with pytest.raises(ValueError, match="float32"):
        pixel_graph_ward(points.double(), edges)
    with pytest.raises(ValueError, match="32768"):
        pixel_graph_ward(torch.zeros(1, 40000, 1), edges)
    with pytest.raises(ValueError, match="'4' or '8'"):
        grid_edges(2, 2, "6", CPU)
    with pytest.raises(ValueError, match="centroid"):
        full_graph_linkage(points, "centroid")
    with pytest.raises(ValueError, match="floating-point"):
        full_graph_linkage(points.long(), "ward")
