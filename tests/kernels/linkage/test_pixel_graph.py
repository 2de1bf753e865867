import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.cluster import linkage_tree, ward_tree

from oracles import ward_by_heap
from ovsr_gpu.kernels import backend as backends
from ovsr_gpu.kernels.linkage import PIXEL_GRAPH_METHODS, edge_linkage, grid_edges, pixel_graph, pixel_graph_linkage
from point_sets import ALL, TIED, integer, normal, smooth

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, params=["heap", "torch"])
def backend(request, monkeypatch):
    """Run each test with both backends that "auto" can select without Triton: the CPU heap and the torch rounds."""
    choose = backends.choose_backend

    def choose_cpu_backend(name, *args, **options):
        return choose(request.param if name == "auto" else name, *args, **options)

    monkeypatch.setattr(pixel_graph, "choose_backend", choose_cpu_backend)


def connectivity_matrix(edges: torch.Tensor, points: int) -> sparse.csr_matrix:
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T.numpy()), shape=(points, points)).tocsr()
    return graph.maximum(graph.T)


def random_graph(points: int, seed: int) -> torch.Tensor:
    """Return the edges of a connected graph: a random tree plus as many random edges."""
    generator = torch.Generator().manual_seed(seed)
    tree = [[int(torch.randint(0, node, (1,), generator=generator)), node] for node in range(1, points)]
    return torch.cat([torch.tensor(tree), torch.randint(0, points, (points, 2), generator=generator)])


def assert_scikit_learn_tree(tree, points: torch.Tensor, edges: torch.Tensor, method: str, rtol: float) -> None:
    graph = connectivity_matrix(edges[edges[:, 0] != edges[:, 1]], points.shape[1])
    for image, observations in enumerate(points.double().numpy()):
        build = ward_tree if method == "ward" else linkage_tree
        options = {} if method == "ward" else {"linkage": method}
        expected, *_, distances = build(observations, connectivity=graph, return_distance=True, **options)
        assert np.array_equal(tree.children[image], np.sort(expected, axis=1))
        np.testing.assert_allclose(tree.heights[image], distances, rtol=rtol)


@pytest.mark.parametrize("connectivity", ["4", "8"])
@pytest.mark.parametrize("side", [2, 3, 7, 17])
@pytest.mark.parametrize("kind", ALL)
def test_ward_equals_scikit_learn_including_ties(kind, side, connectivity):
    edges = grid_edges(side, side, connectivity, CPU)
    points = kind(side, 3, seed=side, images=2)
    assert_scikit_learn_tree(pixel_graph_linkage(points, edges), points, edges, "ward", 1e-15)


@pytest.mark.parametrize("rank", [1, 16, 64])
def test_ward_equals_scikit_learn_at_28_by_28(rank):
    edges = grid_edges(28, 28, "4", CPU)
    points = smooth(28, rank, seed=rank)
    assert_scikit_learn_tree(pixel_graph_linkage(points, edges), points, edges, "ward", 1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [smooth, integer])
def test_ward_equals_scikit_learn_at_56_by_56(kind):
    edges = grid_edges(56, 56, "8", CPU)
    points = kind(56, 4, seed=2)
    assert_scikit_learn_tree(pixel_graph_linkage(points, edges), points, edges, "ward", 1e-15)


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
@pytest.mark.parametrize("count", [2, 3, 61, 157])
def test_random_graph_equals_scikit_learn(method, count):
    points = normal(13, 4, seed=count)[:, :count]
    edges = random_graph(count, seed=count)
    assert_scikit_learn_tree(pixel_graph_linkage(points, edges, method), points, edges, method, 1e-12)


@pytest.mark.parametrize("method", ["complete", "average", "single"])
@pytest.mark.parametrize("connectivity", ["4", "8"])
@pytest.mark.parametrize("kind", [normal, smooth])
def test_other_linkages_equal_scikit_learn(kind, connectivity, method):
    edges = grid_edges(14, 14, connectivity, CPU)
    points = kind(14, 5, seed=3, images=2)
    assert_scikit_learn_tree(pixel_graph_linkage(points, edges, method), points, edges, method, 1e-12)
    assert_scikit_learn_tree(pixel_graph_linkage(points.float(), edges, method), points.float(), edges, method, 1e-5)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    connectivity=st.sampled_from(["4", "8"]),
    kind=st.sampled_from([normal, *TIED]),
    seed=st.integers(0, 1000),
)
def test_float32_ward_equals_a_float32_heap(height, width, connectivity, kind, seed):
    points = kind(6, 3, seed)[:, : height * width].float()
    edges = grid_edges(height, width, connectivity, CPU)
    tree = pixel_graph_linkage(points, edges)
    expected, costs = ward_by_heap(points[0].numpy(), edges.tolist())
    assert [tuple(pair) for pair in tree.children[0].tolist()] == expected
    np.testing.assert_allclose(tree.heights[0], np.sqrt(2 * np.array(costs, np.float32)), rtol=2e-7)


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", [normal, *TIED])
def test_batch_equals_single_images(kind, method):
    batch = torch.cat([smooth(9, 5, 1), kind(9, 5, 2), normal(9, 5, 3)]).float()
    edges = grid_edges(9, 9, "4", CPU)
    together = pixel_graph_linkage(batch, edges, method)
    for image in range(3):
        alone = pixel_graph_linkage(batch[image : image + 1], edges, method)
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[image], part[0])


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
def test_masked_points_and_separate_components(method):
    """A masked middle column splits the grid into two components: each grows its own tree, and two clusters remain."""
    points = normal(7, 3, seed=0)
    mask = (torch.arange(49) % 7 != 3)[None]
    edges = grid_edges(7, 7, "4", CPU)
    tree = pixel_graph_linkage(points, edges, method, mask=mask)
    merges = 49 - 7 - 2
    assert (tree.children[:, merges:] == -1).all() and tree.heights[:, merges:].isinf().all()
    merged = tree.children[0, :merges].flatten()
    assert len(merged.unique()) == 2 * merges
    assert not set(merged.tolist()) & set((~mask[0]).nonzero()[:, 0].tolist())

    heights = []
    for side in (torch.arange(49) % 7 < 3, torch.arange(49) % 7 > 3):
        half = side.nonzero()[:, 0]
        inner = edges[side[edges].all(1)]
        renamed = torch.full((49,), -1).scatter(0, half, torch.arange(len(half)))[inner]
        heights.append(pixel_graph_linkage(points[:, half], renamed, method).heights[0])
    assert torch.equal(tree.heights[0, :merges].sort().values, torch.cat(heights).sort().values)


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", [smooth, *TIED])
def test_early_stop_is_a_prefix_of_the_tree(kind, method):
    points, edges = kind(6, 3, seed=1, images=3), grid_edges(6, 6, "4", CPU)
    whole = pixel_graph_linkage(points, edges, method)
    stop_at = torch.tensor([1, 7, 36])
    stopped = pixel_graph_linkage(points, edges, method, stop_at=stop_at)
    for image, clusters in enumerate(stop_at.tolist()):
        merges = 36 - clusters
        for all_merges, some in zip(whole, stopped, strict=True):
            assert torch.equal(all_merges[image, :merges], some[image, :merges])
        assert (stopped.children[image, merges:] == -1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["ward", "average"])
@pytest.mark.parametrize("kind", ALL)
def test_heap_and_rounds_are_bitwise_equal(kind, method, dtype):
    """Heap and rounds agree for the linkages whose merge order is part of their definition, including ties."""
    points, edges = kind(9, 5, seed=1, images=3).to(dtype), grid_edges(9, 9, "8", CPU)
    points[1, 40] = torch.nan
    options = {
        "mask": torch.rand(3, 81, generator=torch.Generator().manual_seed(0)) > 0.2,
        "stop_at": torch.tensor([1, 5, 81]),
    }
    by_heap, by_rounds = (
        pixel_graph_linkage(points, edges, method, **options, backend=backend) for backend in ("heap", "torch")
    )
    for one, other in zip(by_heap, by_rounds, strict=True):
        assert torch.equal(one, other)


def test_edge_weights_without_points():
    weights = torch.tensor([[3.0, 1.0, 2.0, 5.0]])
    edges = torch.tensor([[0, 1], [1, 2], [3, 2], [2, 3]])  # of a duplicate edge, the smaller weight counts
    tree = edge_linkage(weights, edges, 4, "single")
    assert tree.children[0].tolist() == [[1, 2], [3, 4], [0, 5]]
    assert tree.heights[0].tolist() == [1.0, 2.0, 3.0]
    assert tree.sizes[0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
def test_no_images_and_no_edges(method):
    edges = grid_edges(2, 2, "4", CPU)
    assert pixel_graph_linkage(torch.ones(0, 4, 3), edges, method).children.shape == (0, 3, 2)
    assert (pixel_graph_linkage(torch.ones(1, 4, 3), edges[:0], method).children == -1).all()


def test_rejects_edges_of_points_that_do_not_exist():
    with pytest.raises(ValueError, match="points 0 to 3; got 0 to 4"):
        pixel_graph_linkage(torch.ones(1, 4, 3), torch.tensor([[0, 4]]))


def test_one_pixel_has_no_merges():
    tree = pixel_graph_linkage(torch.ones(2, 1, 3), grid_edges(1, 1, "4", CPU))
    assert tree.children.shape == (2, 0, 2)


def test_invalid_input():
    points, edges = torch.zeros(1, 4, 2), grid_edges(2, 2, "4", CPU)
    with pytest.raises(ValueError, match="ward, complete, average, single; got 'weighted'"):
        pixel_graph_linkage(points, edges, "weighted")
    with pytest.raises(ValueError, match="complete, average, single; got 'ward'"):
        edge_linkage(torch.zeros(1, 4), edges, 4, "ward")
    with pytest.raises(ValueError, match="points must be a float32 or float64"):
        pixel_graph_linkage(points.half(), edges)
    with pytest.raises(ValueError, match=r"weights must be .*\[B, 4\]"):
        edge_linkage(torch.zeros(1, 3), edges, 4, "single")
    with pytest.raises(ValueError, match=r"edges must be int64 of shape \[E, 2\]"):
        pixel_graph_linkage(points, edges.int())
    with pytest.raises(ValueError, match="auto, torch, triton, heap; got 'numba'"):
        pixel_graph_linkage(points, edges, backend="numba")
    with pytest.raises(RuntimeError, match="'heap' needs tensors on the CPU; these are on meta, where 'torch' can run"):
        pixel_graph_linkage(points.to("meta"), edges, backend="heap")
    with pytest.raises(ValueError, match="'4' or '8'; got '6'"):
        grid_edges(2, 2, "6", CPU)
