from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu.results import ClassTexts
from ovsr_gpu.stages.confusable import MIN_LOGIT_GAP, ConfusablePair, confusable_pairs, describe_confusable


def texts(rows: list[list[float]], index: list[int], classes: int) -> ClassTexts:
    embeddings = torch.nn.functional.normalize(torch.tensor(rows), dim=1)
    return ClassTexts(embeddings.to(DEVICE), torch.tensor(index, device=DEVICE), classes)


@pytest.mark.parametrize("something_else", [True, False])
def test_pairs_against_loops(something_else: bool) -> None:
    random = np.random.default_rng(0)
    index = [0, 0, 1, 2, 2, 2, 3, *([4, 4] if something_else else [])]
    rows = random.normal(1, 0.3, (len(index), 6))
    names, scale = ("a", "b", "c", "d"), 60.0
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = []
    for first in range(5):
        for second in range(first + 1, 5):
            pairs = [
                (i, j) for i, one in enumerate(index) for j, two in enumerate(index) if (one, two) == (first, second)
            ]
            gap = min((scale * (1 - unit[i] @ unit[j]) for i, j in pairs), default=math.inf)
            if gap < MIN_LOGIT_GAP:
                expected.append(([*names, "something else"][first], [*names, "something else"][second], gap))
    found = confusable_pairs(texts(rows.tolist(), index, 4), names, scale)
    assert 1 < len(expected) < 10
    for pair, (first, second, gap) in zip(found, sorted(expected, key=lambda one: one[2]), strict=True):
        assert (pair.first, pair.second) == (first, second) and pair.logit_gap == pytest.approx(gap, abs=1e-3)


def test_equal_texts_have_no_gap_and_distant_ones_are_not_returned() -> None:
    found = confusable_pairs(texts([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 1, 2], 3), ("sofa", "couch", "sky"), 100)
    assert found == [("sofa", "couch", pytest.approx(0, abs=1e-4))]
    assert confusable_pairs(texts([[1.0, 0.0]], [0], 1), ("sofa",), 100) == []


def test_at_most_five_pairs_are_described() -> None:
    pairs = [ConfusablePair(f"a{number}", f"b{number}", number / 10) for number in range(7)]
    assert describe_confusable(pairs[:1]).startswith("This CLIP can hardly tell apart 'a0' and 'b0'. Make")
    description = describe_confusable(pairs)
    assert "'a4' and 'b4', and 2 more." in description and "a5" not in description
