from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.evaluation import DatasetHungarian, ImageHungarian

Pixels = set[tuple[int, int]]


def pixels(labels: torch.Tensor, value: int, known: torch.Tensor) -> Pixels:
    return {tuple(place) for place in ((labels == value) & known).nonzero().tolist()}


def best_assignment(found: torch.Tensor, truth: torch.Tensor) -> tuple[float, dict[int, tuple[Pixels, Pixels]]]:
    """Of all one-to-one assignments of an image the one with the largest mean IoU: found and true pixels by class."""
    known = truth >= 0
    labels = truth[known].unique().tolist()
    regions: list[Pixels] = [pixels(found, number, known) for number in found.unique().tolist()]
    regions += [set() for _ in labels]

    def iou(pair: tuple[Pixels, Pixels]) -> float:
        return len(pair[0] & pair[1]) / len(pair[0] | pair[1])

    true = [pixels(truth, label, known) for label in labels]
    assignments = (list(zip(chosen, true, strict=True)) for chosen in permutations(regions, len(labels)))
    best = max(assignments, key=lambda pairs: sum(map(iou, pairs)))
    return sum(map(iou, best)) / len(labels), dict(zip(labels, best, strict=True))


def random_images(regions: int, classes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = np.random.default_rng(regions * 10 + classes)
    return [
        (
            torch.tensor(random.integers(0, regions, (9, 11)), device=DEVICE),
            torch.tensor(2 * random.integers(0, classes, (9, 11)) - (random.random((9, 11)) < 0.5), device=DEVICE),
        )
        for _ in range(4)
    ]


@pytest.mark.parametrize(("regions", "classes"), [(1, 1), (1, 4), (4, 1), (3, 3), (4, 2)])
def test_the_assignment_of_each_image_is_the_best_of_all(regions: int, classes: int) -> None:
    images = random_images(regions, classes)
    hungarian = ImageHungarian(2 * classes)
    hungarian.update(*map(torch.stack, zip(*images[:2], strict=True)))
    for image in images[2:]:
        hungarian.update(*image)
    best = [best_assignment(*image) for image in images]
    iou: list[float | None] = []
    for label in range(2 * classes):
        pairs = [by_class[label] for _, by_class in best if label in by_class]
        hits = sum(len(found & true) for found, true in pairs)
        union = sum(len(found | true) for found, true in pairs)
        iou.append(hits / union if union else None)
    scores = hungarian.result()
    assert scores.image_miou == pytest.approx(np.mean([mean for mean, _ in best]))
    assert scores.iou == pytest.approx(iou)
    assert scores.miou == pytest.approx(np.mean([value for value in iou if value is not None]))


def test_both_means_by_hand() -> None:
    hungarian = ImageHungarian(3)
    hungarian.update(torch.tensor([[0, 0, 1, 1, 2]]), torch.tensor([[0, 0, 0, 2, 2]]))  # IoU 2/3 of 0, 1/3 or 1/2 of 2
    hungarian.update(torch.tensor([[0, 0, 0, 0, 5]]), torch.tensor([[0, 0, 0, 0, -1]]))
    scores = hungarian.result()
    assert scores.image_miou == pytest.approx(((2 / 3 + 1 / 2) / 2 + 1) / 2)
    assert scores.iou == pytest.approx([6 / 7, None, 1 / 2])
    assert scores.miou == pytest.approx((6 / 7 + 1 / 2) / 2)


def test_an_image_of_void_counts_nowhere() -> None:
    hungarian = ImageHungarian(2)
    void = torch.full((1, 2, 2), -1)
    hungarian.update(torch.zeros_like(void), void)
    with pytest.raises(ValueError, match="no image"):
        hungarian.result()
    hungarian.update(torch.zeros(2, 2, 2, dtype=torch.int64), torch.cat([void, torch.ones_like(void)]))
    assert hungarian.result().image_miou == 1


@pytest.mark.parametrize(("clusters", "classes"), [(1, 1), (1, 3), (3, 1), (3, 3), (4, 3), (2, 4)])
def test_the_assignment_of_a_dataset_gives_the_most_pixels_their_class(clusters: int, classes: int) -> None:
    random = np.random.default_rng(clusters * 10 + classes)
    found = torch.tensor(random.integers(0, clusters, (3, 5, 7)), device=DEVICE)
    truth = torch.tensor(random.integers(-1, classes, (3, 5, 7)), device=DEVICE)
    hungarian = DatasetHungarian(clusters, classes + 1)  # the last class is never true
    for one, its_truth in zip(found, truth, strict=True):
        hungarian.update(one, its_truth)
    known = (truth >= 0).flatten()
    here, there = found.flatten()[known].tolist(), truth.flatten()[known].tolist()
    ids = [*range(clusters), *[-1] * classes]

    def right(chosen: tuple[int, ...]) -> int:
        return sum(one == chosen[label] for one, label in zip(here, there, strict=True))

    best = max(permutations(ids, classes), key=right)
    iou = []
    for label, number in enumerate(best):
        pairs = list(zip(here, there, strict=True))
        both = sum(pair == (number, label) for pair in pairs)
        iou.append(both / sum(one == number or true == label for one, true in pairs))
    scores = hungarian.result()
    assert scores.cluster == [None if number < 0 else number for number in best] + [None]
    assert scores.iou == pytest.approx([*iou, None])
    assert scores.miou == pytest.approx(np.mean(iou))
    assert scores.pixel_accuracy == pytest.approx(right(best) / len(here))


def test_renamed_classes_cost_nothing_over_the_dataset() -> None:
    truth = torch.randint(0, 4, (2, 6, 6))
    hungarian = DatasetHungarian(5, 4)
    hungarian.update(4 - truth, truth)
    scores = hungarian.result()
    assert scores.iou == [1, 1, 1, 1] and scores.cluster == [4, 3, 2, 1] and scores.pixel_accuracy == 1


def test_a_dataset_of_void_has_no_score() -> None:
    hungarian = DatasetHungarian(2, 2)
    hungarian.update(torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2), -1))
    with pytest.raises(ValueError, match="no pixel"):
        hungarian.result()
