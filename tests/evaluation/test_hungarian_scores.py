from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.evaluation import DatasetHungarian, ImageHungarian

Pixels = set[tuple[int, int]]


def pixels(labels: torch.Tensor, value: int, valid: torch.Tensor) -> Pixels:
    return {tuple(position) for position in ((labels == value) & valid).nonzero().tolist()}


def best_assignment(prediction: torch.Tensor, target: torch.Tensor) -> tuple[float, dict[int, tuple[Pixels, Pixels]]]:
    """Return the maximum mean IoU over all one-to-one assignments, and predicted and target pixels by class."""
    valid = target >= 0
    labels = target[valid].unique().tolist()
    regions: list[Pixels] = [pixels(prediction, number, valid) for number in prediction.unique().tolist()]
    regions += [set() for _ in labels]

    def iou(pair: tuple[Pixels, Pixels]) -> float:
        return len(pair[0] & pair[1]) / len(pair[0] | pair[1])

    target_pixels = [pixels(target, label, valid) for label in labels]
    assignments = (list(zip(assigned, target_pixels, strict=True)) for assigned in permutations(regions, len(labels)))
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
def test_image_assignment_is_optimal(regions: int, classes: int) -> None:
    images = random_images(regions, classes)
    hungarian = ImageHungarian(2 * classes)
    hungarian.update(*map(torch.stack, zip(*images[:2], strict=True)))
    for image in images[2:]:
        hungarian.update(*image)
    best = [best_assignment(*image) for image in images]
    iou: list[float | None] = []
    for label in range(2 * classes):
        pairs = [by_class[label] for _, by_class in best if label in by_class]
        tp = sum(len(predicted & expected) for predicted, expected in pairs)
        union = sum(len(predicted | expected) for predicted, expected in pairs)
        iou.append(tp / union if union else None)
    scores = hungarian.compute()
    assert scores.image_miou == pytest.approx(np.mean([mean for mean, _ in best]))
    assert scores.iou == pytest.approx(iou)
    assert scores.miou == pytest.approx(np.mean([value for value in iou if value is not None]))


def test_both_means_by_hand() -> None:
    hungarian = ImageHungarian(3)
    hungarian.update(torch.tensor([[0, 0, 1, 1, 2]]), torch.tensor([[0, 0, 0, 2, 2]]))  # IoU 2/3 of 0, 1/3 or 1/2 of 2
    hungarian.update(torch.tensor([[0, 0, 0, 0, 5]]), torch.tensor([[0, 0, 0, 0, -1]]))
    scores = hungarian.compute()
    assert scores.image_miou == pytest.approx(((2 / 3 + 1 / 2) / 2 + 1) / 2)
    assert scores.iou == pytest.approx([6 / 7, None, 1 / 2])
    assert scores.miou == pytest.approx((6 / 7 + 1 / 2) / 2)


def test_void_image_is_ignored() -> None:
    hungarian = ImageHungarian(2)
    void = torch.full((1, 2, 2), -1)
    hungarian.update(torch.zeros_like(void), void)
    with pytest.raises(ValueError, match="no image"):
        hungarian.compute()
    hungarian.update(torch.zeros(2, 2, 2, dtype=torch.int64), torch.cat([void, torch.ones_like(void)]))
    assert hungarian.compute().image_miou == 1


@pytest.mark.parametrize(("clusters", "classes"), [(1, 1), (1, 3), (3, 1), (3, 3), (4, 3), (2, 4)])
def test_dataset_assignment_is_optimal(clusters: int, classes: int) -> None:
    random = np.random.default_rng(clusters * 10 + classes)
    prediction = torch.tensor(random.integers(0, clusters, (3, 5, 7)), device=DEVICE)
    target = torch.tensor(random.integers(-1, classes, (3, 5, 7)), device=DEVICE)
    hungarian = DatasetHungarian(clusters, classes + 1)  # the last class has no target pixel
    for image_clusters, image_target in zip(prediction, target, strict=True):
        hungarian.update(image_clusters, image_target)
    valid = (target >= 0).flatten()
    pairs = list(zip(prediction.flatten()[valid].tolist(), target.flatten()[valid].tolist(), strict=True))
    ids = [*range(clusters), *[-1] * classes]

    def num_correct(assigned: tuple[int, ...]) -> int:
        return sum(cluster == assigned[label] for cluster, label in pairs)

    best = max(permutations(ids, classes), key=num_correct)
    iou = []
    for label, number in enumerate(best):
        intersection = sum(pair == (number, label) for pair in pairs)
        iou.append(intersection / sum(cluster == number or target_label == label for cluster, target_label in pairs))
    scores = hungarian.compute()
    assert scores.cluster == [None if number < 0 else number for number in best] + [None]
    assert scores.iou == pytest.approx([*iou, None])
    assert scores.miou == pytest.approx(np.mean(iou))
    assert scores.pixel_accuracy == pytest.approx(num_correct(best) / len(pairs))


def test_permuted_classes_are_perfect() -> None:
    target = torch.randint(0, 4, (2, 6, 6))
    hungarian = DatasetHungarian(5, 4)
    hungarian.update(4 - target, target)
    scores = hungarian.compute()
    assert scores.iou == [1, 1, 1, 1] and scores.cluster == [4, 3, 2, 1] and scores.pixel_accuracy == 1


def test_void_dataset_has_no_score() -> None:
    hungarian = DatasetHungarian(2, 2)
    hungarian.update(torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2), -1))
    with pytest.raises(ValueError, match="no pixel"):
        hungarian.compute()
