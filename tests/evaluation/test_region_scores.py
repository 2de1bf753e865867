from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.evaluation import RegionMatches

CLASSES = 3


def random_segments(random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Segments of one image in stripes of which the found ones are shifted a little; void and none here and there."""
    stripes = np.repeat(np.arange(12), random.integers(1, 9, 12))[:40]
    truth = np.tile(np.resize(stripes, 40), (7, 1))
    found = np.roll(truth, random.integers(-2, 3), axis=1)
    found[random.random(found.shape) < 0.1] = -1
    truth[random.random(truth.shape) < 0.2] = -1
    truth[:, :8] = -1
    true_class = random.integers(0, CLASSES, 12)
    found_class = np.where(random.random(12) < 0.7, true_class, random.integers(0, CLASSES + 1, 12))
    return tuple(torch.tensor(part, device=DEVICE) for part in (found, found_class, truth, true_class))


@pytest.mark.parametrize("seed", range(5))
def test_matches_by_plain_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    matches = RegionMatches(CLASSES)
    hits, wrong, missed = ([0] * CLASSES for _ in range(3))
    ious: list[list[float]] = [[] for _ in range(CLASSES)]
    for _ in range(3):
        image = random_segments(random)
        matches.update(*image)
        found, found_class, truth, true_class = (part.cpu().numpy() for part in image)
        matched_found, matched_true = set(), set()
        for one in range(12):
            for other in range(12):
                here, there = found == one, truth == other
                union = ((here & (truth >= 0)) | there).sum()
                if union and (here & there).sum() / union > 0.5 and found_class[one] == true_class[other]:
                    matched_found.add(one)
                    matched_true.add(other)
                    ious[true_class[other]].append((here & there).sum() / union)
        for one in range(12):
            area, void = (found == one).sum(), ((found == one) & (truth < 0)).sum()
            if one in matched_found:
                hits[found_class[one]] += 1
            elif area and found_class[one] < CLASSES and void / area <= 0.5:
                wrong[found_class[one]] += 1
        for other in range(12):
            if other not in matched_true and (truth == other).any():
                missed[true_class[other]] += 1
    scores = matches.result()
    assert [scores.true_positives, scores.false_positives, scores.false_negatives] == [hits, wrong, missed]
    assert sum(hits) and sum(wrong) and sum(missed)
    quality = [np.mean(values) if values else 0 for values in ious]
    f1 = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in zip(hits, wrong, missed, strict=True)]
    assert scores.f1 == pytest.approx(f1)
    assert scores.segmentation_quality == pytest.approx(quality)
    assert scores.panoptic_quality == pytest.approx(np.multiply(quality, f1))
    assert scores.precision == pytest.approx([tp / max(tp + fp, 1) for tp, fp in zip(hits, wrong, strict=True)])
    assert scores.recall == pytest.approx([tp / max(tp + fn, 1) for tp, fn in zip(hits, missed, strict=True)])
    assert scores.macro_panoptic_quality == pytest.approx(np.mean(np.multiply(quality, f1)))


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_quality_of_class_maps_is_that_of_torchmetrics(seed: int) -> None:
    """Without "something else": torchmetrics takes it out of the true segments, panopticapi does not."""
    detection = pytest.importorskip("torchmetrics.detection")
    random = np.random.default_rng(seed)
    matches = RegionMatches(4)
    theirs = detection.PanopticQuality(set(), set(range(4)), return_sq_and_rq=True)
    for _ in range(4):
        truth = torch.tensor(np.kron(random.integers(-1, 4, (3, 4)), np.ones((4, 4), int)))
        found = torch.tensor(np.where(random.random((12, 16)) < 0.3, random.integers(0, 4, (12, 16)), truth)).clamp(0)
        matches.update(found, torch.arange(5), truth, torch.arange(4))
        category = torch.stack([found, truth])
        theirs.update(*torch.stack([category, torch.zeros_like(category)], -1)[:, None])
    scores = matches.result()
    ours = [scores.macro_panoptic_quality, scores.macro_segmentation_quality, scores.macro_f1]
    assert ours == pytest.approx(theirs.compute().tolist())


def test_half_is_no_match_and_more_is_one() -> None:
    matches = RegionMatches(2)
    one = torch.tensor([0])
    matches.update(torch.tensor([[0, 0, -1]]), one, torch.tensor([[0, -1, 0]]), one)  # void in no union: 1/2
    assert matches.result().true_positives == [0, 0] and matches.result().false_negatives == [1, 0]
    assert matches.result().false_positives == [1, 0]  # half of it is void, not more
    matches.update(torch.tensor([[0, 0, -1]]), one, torch.tensor([[0, 0, 0]]), one)
    scores = matches.result()
    assert scores.true_positives == [1, 0] and scores.precision == [1 / 2, None]
    assert scores.segmentation_quality == pytest.approx([2 / 3, None])
    assert scores.macro_panoptic_quality == pytest.approx(2 / 3 * 1 / 2)
    json.dumps(asdict(scores), allow_nan=False)


def test_something_else_is_no_false_positive_and_void_takes_one_away() -> None:
    matches = RegionMatches(2)
    found, truth = torch.tensor([[0, 0, 1, 1, 1]]), torch.tensor([[0, 0, 0, -1, -1]])
    matches.update(found, torch.tensor([2, 1]), truth, torch.tensor([0]))
    scores = matches.result()
    assert (scores.false_positives, scores.false_negatives) == ([0, 0], [1, 0])
    assert scores.precision == scores.recall == scores.f1 == [0, None]


def test_void_alone_has_no_score() -> None:
    matches = RegionMatches(2)
    matches.update(torch.zeros(2, 2, dtype=torch.int32), torch.tensor([1]), torch.full((2, 2), -1), torch.arange(2))
    with pytest.raises(ValueError, match="no segment"):
        matches.result()


@pytest.mark.parametrize(
    ("found", "found_class", "truth", "true_class"),
    [([[1]], [0], [[0]], [0]), ([[0]], [3], [[0]], [0]), ([[0]], [0], [[1]], [0]), ([[0]], [0], [[0]], [2])],
)
def test_segments_without_a_class_are_refused(found, found_class, truth, true_class) -> None:
    with pytest.raises(ValueError, match="labels must lie in"):
        RegionMatches(2).update(*map(torch.tensor, (found, found_class, truth, true_class)))
