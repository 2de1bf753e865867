"""Upsampling of label grids against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.stages.upsampling import (
    SIGMA_COLOR,
    SIGMA_SPACE,
    WINDOW_RADIUS,
    majority_filter,
    upsample_joint_bilateral,
)

SHAPES = [(1, 1), (1, 4), (5, 3), (6, 6)]


def votes_of(labels: np.ndarray, colors: np.ndarray, scale: int, y: int, x: int) -> dict[int, float]:
    """Votes on fine cell (y, x), colors `[3, t * h, t * w]`, for the labels that may win, in the order of ties."""
    height, width = labels.shape
    cell = colors.reshape(3, height, scale, width, scale).mean(axis=(2, 4))
    row, column = y // scale, x // scale

    def inside(a: int, b: int) -> tuple[int, int]:
        return min(max(a, 0), height - 1), min(max(b, 0), width - 1)

    votes = {int(labels[inside(row + a, column + b)]): 0.0 for a in (-1, 0, 1) for b in (-1, 0, 1)}
    for a in range(row - WINDOW_RADIUS, row + WINDOW_RADIUS + 1):
        for b in range(column - WINDOW_RADIUS, column + WINDOW_RADIUS + 1):
            at = inside(a, b)
            if at != (a, b):
                continue
            distance = (a - ((y + 0.5) / scale - 0.5)) ** 2 + (b - ((x + 0.5) / scale - 0.5)) ** 2
            color = ((colors[:, y, x] - cell[:, at[0], at[1]]) ** 2).sum()
            weight = math.exp(-distance / (2 * SIGMA_SPACE**2)) * math.exp(-color / (2 * SIGMA_COLOR**2))
            if labels[at] in votes:
                votes[int(labels[at])] += weight
    return votes


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_joint_bilateral_against_loops(shape: tuple[int, int], scale: int) -> None:
    random = np.random.default_rng(shape[0])
    labels = random.integers(0, 4, (2, *shape))
    colors = random.random((2, 3, scale * shape[0], scale * shape[1])).astype(np.float32) * 0.4
    found = (
        upsample_joint_bilateral(torch.from_numpy(labels).to(DEVICE), torch.from_numpy(colors).to(DEVICE)).cpu().numpy()
    )
    for image, y, x in np.ndindex(found.shape):
        votes = votes_of(labels[image], colors[image].astype(np.float64), scale, y, x)
        assert votes[int(found[image, y, x])] == pytest.approx(max(votes.values()), rel=1e-4)


def test_boundaries_move_to_edges_of_the_image() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, :, 4:] = 7
    colors = torch.zeros(1, 3, 16, 16)
    colors[:, :, :, 10:] = 1  # a cell further to the right than the labels say
    found = upsample_joint_bilateral(labels.to(DEVICE), colors.to(DEVICE)).cpu()
    assert found.unique().tolist() == [0, 7] and bool((found[:, :, :10] == 0).all() and (found[:, :, 10:] == 7).all())


def test_without_an_edge_the_nearer_label_wins() -> None:
    labels = torch.tensor([[[3, 3, 5, 5]] * 4], device=DEVICE)
    found = upsample_joint_bilateral(labels, torch.full((1, 3, 8, 8), 0.5, device=DEVICE))
    assert found.tolist() == [[[3] * 4 + [5] * 4] * 8]


@pytest.mark.parametrize("shape", SHAPES)
def test_majority_against_loops(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(shape[1]).integers(0, 3, (3, *shape))
    found = majority_filter(torch.from_numpy(labels).to(DEVICE)).cpu().numpy()
    for image, y, x in np.ndindex(labels.shape):
        rows, columns = (
            np.clip(np.arange(at - 1, at + 2), 0, size - 1) for at, size in zip((y, x), shape, strict=True)
        )
        window = labels[image][np.ix_(rows, columns)].ravel().tolist()
        max_count = max(window.count(label) for label in window)
        winners = [label for label in window if window.count(label) == max_count]
        assert found[image, y, x] == (labels[image, y, x] if labels[image, y, x] in winners else winners[0])


def test_an_image_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (6, 9, 9), generator=generator).to(DEVICE)
    colors = torch.rand(6, 3, 18, 18, generator=generator).to(DEVICE)
    together = upsample_joint_bilateral(labels, colors)
    for index in range(6):
        assert torch.equal(
            upsample_joint_bilateral(labels[index : index + 1], colors[index : index + 1])[0], together[index]
        )
