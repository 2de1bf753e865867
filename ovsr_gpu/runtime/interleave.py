"""Taking turns: how one thread keeps several batches under way, so that none of them waits for the device in vain."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Generic, TypeVar

Result = TypeVar("Result")
Task = Generator[None, None, Result]
"""A generator that yields where it is about to wait for something it has set going, and returns its result."""


def in_turns(tasks: Iterable[Task[Result]]) -> Iterator[Result]:
    """The results of tasks, in their order; wherever a task yields, the next one has its turn first.

    A task that yields n times is thus finished after the n tasks behind it have begun.
    """
    under_way: deque[_UnderWay[Result]] = deque()
    for task in tasks:
        under_way.append(_UnderWay(task))
        yield from _round(under_way)
    while under_way:
        yield from _round(under_way)


def _round(under_way: deque[_UnderWay[Result]]) -> Iterator[Result]:
    for task in reversed(under_way):
        task.go_on()
    while under_way and under_way[0].result:
        yield from under_way.popleft().result


class _UnderWay(Generic[Result]):
    """A task, and its result in a list once it has one."""

    def __init__(self, task: Task[Result]) -> None:
        self._task = task
        self.result: list[Result] = []

    def go_on(self) -> None:
        if not self.result:
            try:
                next(self._task)
            except StopIteration as end:
                self.result.append(end.value)
