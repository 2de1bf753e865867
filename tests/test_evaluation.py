from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ovsr_gpu.evaluation import confusion_counts, hungarian_miou, labelled_iou


@pytest.mark.parametrize(("regions", "classes"), [(1, 1), (1, 4), (4, 1), (3, 4), (5, 3)])
def test_hungarian_miou_is_that_of_the_best_assignment(regions: int, classes: int) -> None:
    random = np.random.default_rng(regions * 10 + classes)
    for _ in range(5):
        found, truth = random.integers(0, regions, (7, 9)), 3 + 2 * random.integers(0, classes, (7, 9))
        assert hungarian_miou(found, truth) == pytest.approx(best_of_all_assignments(found, truth))


def best_of_all_assignments(found: np.ndarray, truth: np.ndarray) -> float:
    labels = np.unique(truth)
    numbers: list[int | None] = [*np.unique(found).tolist(), *[None] * len(labels)]

    def iou(number: int | None, label: int) -> float:
        return (
            0.0
            if number is None
            else float(((found == number) & (truth == label)).sum())
            / float(((found == number) | (truth == label)).sum())
        )

    return max(
        sum(iou(number, label) for number, label in zip(chosen, labels.tolist(), strict=True)) / len(labels)
        for chosen in permutations(numbers, len(labels))
    )


def test_confusion_counts_on_a_table_by_hand() -> None:
    truth = np.array([[0, 0, 1], [1, 1, 2]], np.uint8)
    found = np.array([[0, 3, 1], [0, 1, 3]], np.int32)
    assert confusion_counts(truth, found, 3, 4).tolist() == [[1, 0, 0, 1], [1, 2, 0, 0], [0, 0, 0, 1]]


def test_labelled_iou_counts_something_else_as_a_miss_and_leaves_out_absent_classes() -> None:
    counts = np.array([[6, 1, 0, 3], [2, 4, 0, 0], [0, 0, 0, 0]])
    iou = labelled_iou(counts)
    assert iou[:2] == pytest.approx([6 / (10 + 8 - 6), 4 / (6 + 5 - 4)])
    assert np.isnan(iou[2])
