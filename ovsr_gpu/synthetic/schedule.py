"""What both trainings fraction: the order of the batches, and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def shuffled(count: int, batch: int, draws: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of indices below `count` without end, each index at most once a round."""
    while True:
        order = draws.permutation(count)
        yield from (order[start : start + batch] for start in range(0, count - batch + 1, batch))


def warmed_cosine(step: int, steps: int, warm_up: float = 0.05) -> float:
    """Factor of the learning rate: a linear rise over the share `warm_up` of the steps, then half a cosine to zero."""
    progress = step / steps
    if progress < warm_up:
        return (step + 1) / (warm_up * steps + 1)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
