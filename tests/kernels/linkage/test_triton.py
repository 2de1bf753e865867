"""The Triton kernels compared with the torch rounds, on a GPU, or with small sizes in Triton's interpreter.

test_full_graph.py and test_pixel_graph.py compare the torch rounds with SciPy and scikit-learn. The interpreter runs
the threads of a program in lockstep, so it cannot detect a missing barrier; the last tests, on a GPU, can.
"""

from __future__ import annotations

import pytest
import torch

from devices import DEVICE, GPU, on_gpu
from ovsr_gpu.kernels.linkage import (
    FULL_GRAPH_METHODS,
    PIXEL_GRAPH_METHODS,
    distance_linkage,
    edge_linkage,
    full_graph_linkage,
    grid_edges,
    pixel_graph_linkage,
)
from ovsr_gpu.kernels.trees import MergeTree, cut
from point_sets import ALL, TIED, constant, integer, normal, smooth

pytest.importorskip("triton", reason="the Triton kernels need triton")
CPU = torch.device("cpu")
KINDS = ALL if GPU else [smooth, integer, constant]  # the interpreter takes about a second per tree


def assert_equal(found: MergeTree, expected: MergeTree) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.cpu(), other)


def symmetric_distances(points: torch.Tensor) -> torch.Tensor:
    """Return distances `[B, P, P]`.

    By default, `cdist` uses matrix products above 25 points, which are not bitwise symmetric.
    """
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 4, *on_gpu(13, 28)])
def test_full_graph_is_bitwise_equal_to_torch(side, kind, method, dtype):
    distances = symmetric_distances(kind(side, 3, seed=1, images=2).to(dtype))
    assert_equal(
        distance_linkage(distances.to(DEVICE), method, backend="triton"),
        distance_linkage(distances, method, backend="torch"),
    )


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [smooth, integer])
def test_56_by_56_is_bitwise_equal_to_torch(kind):
    points, edges = kind(56, 16, seed=1, images=2).float(), grid_edges(56, 56, "4", CPU)
    distances = symmetric_distances(points)
    for method in FULL_GRAPH_METHODS:
        found = distance_linkage(distances.to(DEVICE), method, backend="triton")
        assert_equal(found, distance_linkage(distances, method, backend="torch"))
    found = pixel_graph_linkage(points.to(DEVICE), edges.to(DEVICE), backend="triton")
    assert_equal(found, pixel_graph_linkage(points, edges, backend="torch"))


@pytest.mark.parametrize("method", ["ward", "average"])
@pytest.mark.parametrize("rank", [1, 16, 64])
@pytest.mark.parametrize("count", [2, 37, *on_gpu(211, 784)])
def test_full_graph_of_points_equals_torch(count, rank, method):
    points = normal(64, rank, seed=count)[:, :count].float()
    found = full_graph_linkage(points.to(DEVICE), method, backend="triton")
    expected = full_graph_linkage(points, method, backend="torch")
    scale = float(expected.heights.max())
    torch.testing.assert_close(found.heights.cpu(), expected.heights, rtol=1e-5, atol=1e-6 * scale)
    if bool((expected.heights.diff() > 1e-5 * expected.heights[:, 1:]).all()):  # no near ties
        assert torch.equal(found.children.cpu(), expected.children)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 3, *on_gpu(13, 28)])
def test_pixel_graph_is_bitwise_equal_to_torch(side, kind, method, dtype):
    points, edges = kind(side, 3, seed=1, images=2).to(dtype), grid_edges(side, side, "8", CPU)
    if method == "ward":
        expected = pixel_graph_linkage(points, edges, backend="torch")
        found = pixel_graph_linkage(points.to(DEVICE), edges.to(DEVICE), backend="triton")
    else:
        weights = (points[:, edges[:, 0]] - points[:, edges[:, 1]]).square().sum(2)
        expected = edge_linkage(weights, edges, side * side, method, backend="torch")
        found = edge_linkage(weights.to(DEVICE), edges.to(DEVICE), side * side, method, backend="triton")
    assert_equal(found, expected)


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
@pytest.mark.parametrize("kind", [smooth, integer])
def test_pixel_graph_equals_torch_at_6_by_6(kind, method):
    points, edges = kind(6, 3, seed=1), grid_edges(6, 6, "4", CPU)
    lengths = (points[:, edges[:, 0]] - points[:, edges[:, 1]]).abs().sum(2)
    if method == "ward":
        found = pixel_graph_linkage(points.to(DEVICE), edges.to(DEVICE), backend="triton")
        assert_equal(found, pixel_graph_linkage(points, edges, backend="torch"))
    else:
        found = edge_linkage(lengths.to(DEVICE), edges.to(DEVICE), 36, method, backend="triton")
        assert_equal(found, edge_linkage(lengths, edges, 36, method, backend="torch"))


@pytest.mark.parametrize("side", [4, *on_gpu(28)])
def test_masks_early_stops_and_nonfinite_points(side):
    count = side * side
    mask = torch.rand(4, count, generator=torch.Generator().manual_seed(0)) > 0.3
    mask[3] = False
    stop_at = torch.tensor([1, 3, 2, 1])
    points, edges = normal(side, 3, seed=1, images=4), grid_edges(side, side, "4", CPU)
    points[2, mask[2].nonzero()[0]] = torch.nan
    distances = symmetric_distances(points)
    options = {"mask": mask, "stop_at": stop_at}
    device_options = {name: value.to(DEVICE) for name, value in options.items()}
    for method in FULL_GRAPH_METHODS:
        expected = distance_linkage(distances, method, **options, backend="torch")
        assert_equal(distance_linkage(distances.to(DEVICE), method, **device_options, backend="triton"), expected)
    weights = (points[:, edges[:, 0]] - points[:, edges[:, 1]]).square().sum(2)
    doubled, weights = torch.cat([edges, edges.flip(1)]), torch.cat([weights, weights + 1], dim=1)
    for method in ["complete", "average", "single"]:
        expected = edge_linkage(weights, doubled, count, method, **options, backend="torch")
        inputs = weights.to(DEVICE), doubled.to(DEVICE)
        assert_equal(edge_linkage(*inputs, count, method, **device_options, backend="triton"), expected)
    expected = pixel_graph_linkage(points, doubled, **options, backend="torch")
    found = pixel_graph_linkage(points.to(DEVICE), doubled.to(DEVICE), **device_options, backend="triton")
    assert_equal(found, expected)


def test_unavailable_backend_raises(monkeypatch):
    if GPU:
        points = torch.zeros(1, 2, 2)
    else:
        monkeypatch.setattr("triton.knobs.runtime.interpret", False)
        points = torch.zeros(1, 2, 2)
    with pytest.raises(RuntimeError, match="needs tensors on a CUDA device; these are on cpu, where 'torch' can run"):
        full_graph_linkage(points, backend="triton")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [smooth, normal, *TIED])
def test_repeated_runs_are_identical(kind):
    """A missing barrier causes trees that differ between runs."""
    points, edges = kind(28, 16, seed=1, images=4).float().cuda(), grid_edges(28, 28, "4", DEVICE)
    repeats = 1000 if kind is not constant else 100
    linkages = [lambda method=method: full_graph_linkage(points, method) for method in FULL_GRAPH_METHODS]
    linkages += [lambda method=method: pixel_graph_linkage(points, edges, method) for method in PIXEL_GRAPH_METHODS]
    for grow in linkages:
        first = grow()
        differs = torch.zeros((), dtype=torch.int64, device=DEVICE)
        for _ in range(repeats // len(linkages)):
            for one, other in zip(grow(), first, strict=True):
                differs += (one != other).sum()
        assert int(differs) == 0


@pytest.mark.gpu
def test_no_host_synchronization():
    points, edges = smooth(28, 16, seed=1, images=4).float().cuda(), grid_edges(28, 28, "4", DEVICE)
    clusters = torch.tensor([1, 5, 20, 784], device=DEVICE)
    for mode in ("default", "error"):  # the first run compiles
        torch.cuda.set_sync_debug_mode(mode)
        try:
            cut(full_graph_linkage(points, "ward").children, clusters)
            for method in PIXEL_GRAPH_METHODS:
                cut(pixel_graph_linkage(points, edges, method).children, clusters)
        finally:
            torch.cuda.set_sync_debug_mode("default")
