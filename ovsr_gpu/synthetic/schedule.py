"""Order of the batches and learning rate, shared by both trainings."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def shuffled_batches(count: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield batches of indices in 0..count - 1 without end, each index at most once per epoch.

    The last, incomplete batch of an epoch is dropped.

    Args:
        count: Number of examples.
        batch_size: Number of indices per batch.
        rng: Source of the permutations.

    Yields:
        `[batch_size]` int64.
    """
    while True:
        order = rng.permutation(count)
        yield from (order[start : start + batch_size] for start in range(0, count - batch_size + 1, batch_size))


def warmup_cosine(step: int, num_steps: int, warmup: float = 0.05) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine decay to zero.

    Args:
        step: Index of the step.
        num_steps: Total number of steps.
        warmup: Fraction of the steps for the warm-up.

    Returns:
        The factor, between 0 and 1.
    """
    progress = step / num_steps
    if progress < warmup:
        return (step + 1) / (warmup * num_steps + 1)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
