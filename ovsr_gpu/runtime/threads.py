"""Map a function over items in threads, with bounded prefetching."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_WORKERS = min(8, os.cpu_count() or 1)
"""Number of threads of each pool."""


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item in order, computed by `NUM_WORKERS` threads.

    At most `NUM_WORKERS` items are taken from `items` before their results are consumed.
    """
    futures: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        for item in items:
            if len(futures) == NUM_WORKERS:
                yield futures.popleft().result()
            futures.append(pool.submit(function, item))
        while futures:
            yield futures.popleft().result()
