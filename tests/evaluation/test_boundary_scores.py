from __future__ import annotations

from math import ceil, hypot

import numpy as np
import pytest
import torch
from scipy import ndimage

from devices import DEVICE
from ovsr_gpu.evaluation import BoundaryScore


def outline(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """By the definition, pixel by pixel."""
    height, width = mask.shape
    edges = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for j, i in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if j < height and i < width and known[y, x] and known[j, i] and mask[y, x] != mask[j, i]:
                    edges[y, x] = True
    return edges


def f_score(found: np.ndarray, truth: np.ndarray, known: np.ndarray, radius: int) -> float:
    """Of one class, by dilation with a disc, as in the evaluation of DAVIS."""
    edges, true_edges = outline(found, known), outline(truth, known)
    if not edges.any() and not true_edges.any():
        return 1.0
    if not edges.any() or not true_edges.any():
        return 0.0
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    precision = (edges & ndimage.binary_dilation(true_edges, disc)).sum() / edges.sum()
    recall = (true_edges & ndimage.binary_dilation(edges, disc)).sum() / true_edges.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(random: np.random.Generator, classes: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(random.normal(size=(classes, 23, 31)), (0, 3, 3))
    return noise.argmax(0)


@pytest.mark.parametrize("tolerance", [0.0, 0.0075, 0.05, 0.2])
@pytest.mark.parametrize("void", [0, 0.05])
def test_scores_by_dilation(tolerance: float, void: float) -> None:
    random = np.random.default_rng(int(1000 * tolerance) + (void > 0))
    score = BoundaryScore(4, tolerance)
    by_class: list[list[float]] = [[] for _ in range(4)]
    by_image = []
    for _ in range(3):
        found, truth = blobs(random, 5), blobs(random, 3)
        found[:12] = truth[:12]
        truth[random.random(truth.shape) < void] = -1
        score.update(torch.tensor(found, device=DEVICE), torch.tensor(truth, device=DEVICE))
        known = truth >= 0
        scores = {
            label: f_score(found == label, truth == label, known, ceil(tolerance * hypot(23, 31)))
            for label in range(4)
            if (found[known] == label).any() or (truth == label).any()
        }
        for label, value in scores.items():
            by_class[label].append(value)
        by_image.append(np.mean(list(scores.values())))
    result = score.result()
    expected = [np.mean(values) if values else None for values in by_class]
    assert result.f == pytest.approx(expected)
    assert result.macro_f == pytest.approx(np.mean([value for value in expected if value is not None]))
    assert result.image_f == pytest.approx(np.mean(by_image))


def test_a_line_shifted_within_the_tolerance_and_beyond_it() -> None:
    truth = torch.zeros(40, 30, dtype=torch.int64)
    truth[:, 15:] = 1
    for shift, expected in ((0, 1), (3, 1), (4, 0)):
        score = BoundaryScore(3, tolerance=3 / 50)
        score.update(truth.roll(shift, 1).index_fill(1, torch.arange(shift), 0), truth)
        assert score.result().f == [expected, expected, None]


def test_classes_without_an_outline() -> None:
    full = torch.zeros(5, 5, dtype=torch.int64)
    score = BoundaryScore(3)
    score.update(full, full)
    assert score.result().f == [1, None, None]
    score.update(full + 1, full)  # something else than what is there; neither has an outline
    assert score.result().f == [1, 1, None]
    score.update(full + 3, full)  # "something else" has no score of its own
    assert score.result().image_f == 1
    half = full.index_fill(1, torch.tensor([0]), 2)
    score.update(half, full)
    assert score.result().f == [3 / 4, 1, 0]


def test_one_pixel_and_void_alone() -> None:
    score = BoundaryScore(2)
    score.update(torch.tensor([[0]]), torch.tensor([[-1]]))
    with pytest.raises(ValueError, match="no image"):
        score.result()
    score.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert score.result().f == [1, None]


@pytest.mark.parametrize(
    ("found", "truth"), [([[3]], [[0]]), ([[0]], [[2]]), ([[0, 0]], [[0]]), ([[[0]]], [[[0]]]), ([[0.0]], [[0]])]
)
def test_other_maps_are_refused(found: list, truth: list) -> None:
    with pytest.raises(ValueError, match=r"labels must|maps are needed"):
        BoundaryScore(2).update(torch.tensor(found), torch.tensor(truth))
