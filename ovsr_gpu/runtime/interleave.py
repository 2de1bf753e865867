"""The order of work that keeps several batches in flight in one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def delayed(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield the items in their order, each one only after the `count` items behind it were made.

    A step that starts asynchronous work and the step that waits for it are thus one batch apart:

        begun = map(begin, batches)
        finished = map(finish, delayed(begun, 1))
    """
    in_flight: deque[Item] = deque()
    for item in items:
        in_flight.append(item)
        if len(in_flight) > count:
            yield in_flight.popleft()
    yield from in_flight
