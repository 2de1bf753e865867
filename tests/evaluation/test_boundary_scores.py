from __future__ import annotations

from math import ceil, hypot

import numpy as np
import pytest
import torch
from scipy import ndimage

from devices import DEVICE
from ovsr_gpu.evaluation import BoundaryFScore


def boundary(mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the boundary by its definition, pixel by pixel."""
    height, width = mask.shape
    edges = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for j, i in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if j < height and i < width and valid[y, x] and valid[j, i] and mask[y, x] != mask[j, i]:
                    edges[y, x] = True
    return edges


def f_score(prediction: np.ndarray, target: np.ndarray, valid: np.ndarray, radius: int) -> float:
    """Return the F-score of one class by dilation with a disc, as in the evaluation of DAVIS."""
    edges, target_edges = boundary(prediction, valid), boundary(target, valid)
    if not edges.any() and not target_edges.any():
        return 1.0
    if not edges.any() or not target_edges.any():
        return 0.0
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    precision = (edges & ndimage.binary_dilation(target_edges, disc)).sum() / edges.sum()
    recall = (target_edges & ndimage.binary_dilation(edges, disc)).sum() / target_edges.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(random: np.random.Generator, classes: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(random.normal(size=(classes, 23, 31)), (0, 3, 3))
    return noise.argmax(0)


@pytest.mark.parametrize("tolerance", [0.0, 0.0075, 0.05, 0.2])
@pytest.mark.parametrize("void", [0, 0.05])
def test_scores_agree_with_dilation(tolerance: float, void: float) -> None:
    random = np.random.default_rng(int(1000 * tolerance) + (void > 0))
    score = BoundaryFScore(4, tolerance)
    by_class: list[list[float]] = [[] for _ in range(4)]
    by_image = []
    for _ in range(3):
        prediction, target = blobs(random, 5), blobs(random, 3)
        prediction[:12] = target[:12]
        target[random.random(target.shape) < void] = -1
        score.update(torch.tensor(prediction, device=DEVICE), torch.tensor(target, device=DEVICE))
        valid = target >= 0
        scores = {
            label: f_score(prediction == label, target == label, valid, ceil(tolerance * hypot(23, 31)))
            for label in range(4)
            if (prediction[valid] == label).any() or (target == label).any()
        }
        for label, value in scores.items():
            by_class[label].append(value)
        by_image.append(np.mean(list(scores.values())))
    result = score.compute()
    expected = [np.mean(values) if values else None for values in by_class]
    assert result.f == pytest.approx(expected)
    assert result.macro_f == pytest.approx(np.mean([value for value in expected if value is not None]))
    assert result.image_f == pytest.approx(np.mean(by_image))


def test_shift_within_and_beyond_the_tolerance() -> None:
    target = torch.zeros(40, 30, dtype=torch.int64)
    target[:, 15:] = 1
    for shift, expected in ((0, 1), (3, 1), (4, 0)):
        score = BoundaryFScore(3, tolerance=3 / 50)
        score.update(target.roll(shift, 1).index_fill(1, torch.arange(shift), 0), target)
        assert score.compute().f == [expected, expected, None]


def test_classes_without_a_boundary() -> None:
    full = torch.zeros(5, 5, dtype=torch.int64)
    score = BoundaryFScore(3)
    score.update(full, full)
    assert score.compute().f == [1, None, None]
    score.update(full + 1, full)  # another class than the target; neither has a boundary
    assert score.compute().f == [1, 1, None]
    score.update(full + 3, full)  # "something else" has no score
    assert score.compute().image_f == 1
    half = full.index_fill(1, torch.tensor([0]), 2)
    score.update(half, full)
    assert score.compute().f == [3 / 4, 1, 0]


def test_one_pixel_and_only_void() -> None:
    score = BoundaryFScore(2)
    score.update(torch.tensor([[0]]), torch.tensor([[-1]]))
    with pytest.raises(ValueError, match="no image"):
        score.compute()
    score.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert score.compute().f == [1, None]


@pytest.mark.parametrize(
    ("prediction", "target"), [([[3]], [[0]]), ([[0]], [[2]]), ([[0, 0]], [[0]]), ([[[0]]], [[[0]]]), ([[0.0]], [[0]])]
)
def test_invalid_maps_are_rejected(prediction: list, target: list) -> None:
    with pytest.raises(ValueError, match=r"labels must|maps are needed"):
        BoundaryFScore(2).update(torch.tensor(prediction), torch.tensor(target))
