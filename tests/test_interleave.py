"""The order of work where tasks take turns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovsr_gpu.runtime.interleave import Task, in_turns


def task(number: int, turns: int, log: list[str]) -> Task[int]:
    for turn in range(turns):
        log.append(f"{number}{'abc'[turn]}")
        yield
    log.append(f"{number}{'abc'[turns]}")
    return 10 * number


@pytest.mark.parametrize(
    ("tasks", "turns", "order"),
    [
        (0, 1, ""),
        (3, 0, "0a 1a 2a"),
        (1, 1, "0a 0b"),
        (3, 1, "0a 1a 0b 2a 1b 2b"),
        (4, 2, "0a 1a 0b 2a 1b 0c 3a 2b 1c 3b 2c 3c"),
    ],
)
def test_wherever_a_task_yields_the_next_one_has_its_turn(tasks, turns, order):
    log: list[str] = []
    assert list(in_turns(task(number, turns, log) for number in range(tasks))) == [10 * n for n in range(tasks)]
    assert log == order.split()


def test_results_keep_the_order_of_the_tasks():
    log: list[str] = []
    turns = [2, 0, 1, 0, 0, 2, 1]
    results = in_turns(task(number, count, log) for number, count in enumerate(turns))
    assert list(results) == [0, 10, 20, 30, 40, 50, 60]


def test_nothing_is_taken_before_it_is_asked_for():
    taken: list[int] = []

    def tasks() -> Iterator[Task[int]]:
        for number in range(9):
            taken.append(number)
            yield task(number, 1, [])

    results = in_turns(tasks())
    assert taken == []
    assert next(results) == 0
    assert taken == [0, 1]


def test_an_error_comes_out():
    def failing() -> Task[int]:
        yield
        raise KeyError("lost")

    results = in_turns(iter([task(1, 1, []), failing()]))
    assert next(results) == 10
    with pytest.raises(KeyError, match="lost"):
        next(results)
