"""Stage timings: the `stage` decorator marks a function, and a `record_stages` block measures the marked ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

_timings: ContextVar[dict[str, float] | None] = ContextVar("ovsr_stage_timings", default=None)


def stage(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that marks a function as a stage.

    Args:
        name: Name of the stage in `record_stages`; profiler traces show the range `ovsr::NAME`.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            with torch.profiler.record_function(f"ovsr::{name}"):
                timings = _timings.get()
                if timings is None:
                    return function(*args, **kwargs)
                start = _now()
                result = function(*args, **kwargs)
                timings[name] = timings.get(name, 0.0) + 1e3 * (_now() - start)
                return result

        return run

    return decorate


@contextmanager
def record_stages(enabled: bool = True) -> Iterator[dict[str, float]]:
    """Record the time of each stage that runs in the block; synchronizes the device before and after each stage.

    Args:
        enabled: False records nothing and never synchronizes.

    Yields:
        A dictionary from the names of the stages to milliseconds, filled while the block runs.
    """
    timings: dict[str, float] = {}
    token = _timings.set(timings if enabled else None)
    try:
        yield timings
    finally:
        _timings.reset(token)


def _now() -> float:
    """Return the time in seconds after all queued work on the device is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
    return time.perf_counter()
