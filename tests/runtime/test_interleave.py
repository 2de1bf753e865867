"""The order of steps with several batches in flight."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ovsr_gpu.runtime.interleave import delayed


def step(name: str, log: list[str]) -> Callable[[int], int]:
    def run(number: int) -> int:
        log.append(f"{number}{name}")
        return number

    return run


@pytest.mark.parametrize(
    ("batches", "steps", "order"),
    [
        (0, "ab", ""),
        (3, "a", "0a 1a 2a"),
        (1, "ab", "0a 0b"),
        (3, "ab", "0a 1a 0b 2a 1b 2b"),
        (4, "abc", "0a 1a 0b 2a 1b 0c 3a 2b 1c 3b 2c 3c"),
    ],
)
def test_each_step_is_one_batch_behind_the_step_before_it(batches, steps, order):
    log: list[str] = []
    work = map(step(steps[0], log), range(batches))
    for name in steps[1:]:
        work = map(step(name, log), delayed(work, 1))
    assert list(work) == list(range(batches))
    assert log == order.split()


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_items_keep_their_order(count):
    assert list(delayed(range(7), count)) == list(range(7))


def test_items_are_taken_lazily():
    taken: list[int] = []
    items = delayed(map(step("", []), map(lambda number: taken.append(number) or number, range(9))), 1)
    assert taken == []
    assert next(items) == 0
    assert taken == [0, 1]


def test_an_error_is_raised():
    def failing():
        yield 1
        yield 2
        raise KeyError("lost")

    items = delayed(failing(), 1)
    assert next(items) == 1
    with pytest.raises(KeyError, match="lost"):
        next(items)
