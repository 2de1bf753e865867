"""Keep several batches in flight in one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def delayed(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield items in order, each only after the next `count` items have been produced.

    A step that waits for asynchronous work then runs `count` batches after the step that started it.

    Args:
        items: The items.
        count: Number of items to produce ahead.

    Yields:
        The items.

    Example:
        >>> started = map(start, batches)
        >>> finished = map(finish, delayed(started, 1))
    """
    in_flight: deque[Item] = deque()
    for item in items:
        in_flight.append(item)
        del item  # yielded items are not kept alive
        if len(in_flight) > count:
            yield in_flight.popleft()
    while in_flight:
        yield in_flight.popleft()
