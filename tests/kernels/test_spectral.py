"""Leading singular directions compared with NumPy's SVD in float64, with torch and with Triton (interpreter or GPU)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devices import DEVICE, on_gpu
from ovsr_gpu.kernels.spectral import leading_directions, leading_svd

SHAPES = [(1, 1), (7, 1), (1, 5), (5, 2), (4, 3), (3, 11), (40, 12), *on_gpu((784, 152), (1600, 152), (100, 152))]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(points: int, channels: int, values: np.ndarray, seed: int = 0) -> torch.Tensor:
    """Return a matrix with the given singular values."""
    rank = min(points, channels)
    left, _ = np.linalg.qr(random(points, rank, seed=seed).numpy())
    right, _ = np.linalg.qr(random(channels, rank, seed=seed + 1).numpy())
    return torch.from_numpy(left * np.resize(values, rank) @ right.T)


def normal(points: int, channels: int) -> torch.Tensor:
    return random(points, channels)


def decaying(points: int, channels: int) -> torch.Tensor:
    """Return a matrix with a condition number of a million."""
    return with_spectrum(points, channels, 10.0 ** -np.linspace(0, 6, min(points, channels)))


def degenerate(points: int, channels: int) -> torch.Tensor:
    return with_spectrum(points, channels, np.array([3.0, 3.0, 3.0, 1.0, 1.0]))


def deficient(points: int, channels: int) -> torch.Tensor:
    return with_spectrum(points, channels, np.array([2.0] + [0.0] * (min(points, channels) - 1)))


def zero(points: int, channels: int) -> torch.Tensor:
    return torch.zeros(points, channels, dtype=torch.float64)


@pytest.fixture(params=["torch", "triton"])
def backend(request):
    if request.param == "triton":
        pytest.importorskip("triton", reason="the Triton kernels need triton")
    return request.param


@pytest.mark.parametrize("kind", [normal, decaying, degenerate, deficient, zero])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leading_svd_equals_numpy(dtype, shape, kind, backend):
    matrix = kind(*shape).to(dtype)
    rank = 4
    found, singular_values = leading_svd(matrix[None].to(DEVICE), rank, backend=backend)
    u, expected, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    assert found.dtype == singular_values.dtype == dtype
    large = expected > 1e-3 * expected[0]
    np.testing.assert_allclose(singular_values[0].cpu()[large], expected[large], rtol=1e-4)
    assert (singular_values[0].cpu()[~large] <= 1.001e-3 * expected[0]).all()
    num_components = min(rank, len(expected))
    assert found.shape == (1, shape[0], num_components)

    # Z Z^T = U Sigma^2 U^T does not depend on the signs. It is unique if the last kept value differs from the next.
    if (
        num_components == len(expected)
        or expected[num_components - 1] > expected[num_components] * (1 + 1e-3)
        or expected[0] == 0
    ):
        components = found[0].cpu().double().numpy()
        latents = u[:, :num_components] * expected[:num_components]
        np.testing.assert_allclose(
            components @ components.T, latents @ latents.T, atol=1e-5 * max(expected[0] ** 2, 1e-30)
        )


@pytest.mark.parametrize("shape", [(40, 12), (5, 9)])
def test_signs_are_deterministic(shape, backend):
    matrix = normal(*shape)
    found = leading_svd(matrix[None].to(DEVICE), 3, backend=backend)[0].cpu()[0]
    u, singular_values, vh = np.linalg.svd(matrix.numpy(), full_matrices=False)
    short = vh if shape[0] >= shape[1] else u.T
    signs = [np.sign(vector[np.abs(vector).argmax()]) for vector in short[:3]]
    np.testing.assert_allclose(found, (u * singular_values)[:, :3] * signs, atol=1e-9)


@pytest.mark.parametrize("position", range(3))
def test_batch_equals_single_matrices(position, backend):
    batch = torch.stack([normal(30, 9), degenerate(30, 9), random(30, 9, seed=5)]).float().to(DEVICE)
    together, alone = (leading_svd(matrices, 4, backend=backend) for matrices in (batch, batch[position, None]))
    for whole, one in zip(together, alone, strict=True):
        assert torch.equal(whole[position], one[0])


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_directions_of_ragged_groups_equal_numpy(rank, backend):
    """Interleaved groups of 6, 0, 2 and 9 rows."""
    group = torch.tensor([3, 0, 0, 3, 2, 3, 3, 0, 3, 0, 3, 2, 0, 3, 0, 3, 3])
    rows = random(len(group), 7)
    found = leading_directions(rows.to(DEVICE), group.to(DEVICE), 4, rank, backend=backend).cpu()
    num_directions = min(rank, 7)
    assert found.shape == (4, num_directions, 7)
    for number, directions in enumerate(found.numpy()):
        members = rows[group == number].numpy()
        expected = np.linalg.svd(members, full_matrices=False)[2][:num_directions] if len(members) else np.zeros((0, 7))
        np.testing.assert_allclose(directions.T @ directions, expected.T @ expected, atol=1e-8)
        assert (directions[len(expected) :] == 0).all()


def test_invalid_input():
    with pytest.raises(ValueError, match=r"matrix must be .*\[B, P, C\].*got \[3, 4\]"):
        leading_svd(torch.zeros(3, 4), 1)
    with pytest.raises(ValueError, match="rank must be at least 1; got 0"):
        leading_svd(torch.zeros(1, 3, 4), 0)
    with pytest.raises(ValueError, match=r"rows must be .*\[T, E\]"):
        leading_directions(torch.zeros(2, 3).long(), torch.zeros(2).long(), 1, 1)
    with pytest.raises(ValueError, match="group must be"):
        leading_directions(torch.zeros(2, 3), torch.zeros(3).long(), 1, 1)


@pytest.mark.gpu
def test_no_host_synchronization_and_graph_capture():
    matrices = torch.stack([random(784, 152, seed=seed) for seed in range(4)]).float().cuda()
    expected = leading_svd(matrices, 16)  # warm-up: compilation
    torch.cuda.set_sync_debug_mode("error")
    try:
        leading_svd(matrices, 16)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = leading_svd(matrices, 16)
    graph.replay()
    for one, other in zip(captured, expected, strict=True):
        assert torch.equal(one, other)
