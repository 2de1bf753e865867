"""Stage timings: a stage is a decorated function, and a caller that wants its time opens a `record_stages` block."""

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

_record: ContextVar[dict[str, float] | None] = ContextVar("ovsr_stage_timings", default=None)


def stage(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Mark a function as the stage `name`: a range of that name in profiler traces, a line in `record_stages`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            with torch.profiler.record_function(f"ovsr::{name}"):
                timings = _record.get()
                if timings is None:
                    return function(*args, **kwargs)
                start = _now()
                result = function(*args, **kwargs)
                timings[name] = timings.get(name, 0.0) + 1e3 * (_now() - start)
                return result

        return run

    return decorate


@contextmanager
def record_stages(wanted: bool = True) -> Iterator[dict[str, float]]:
    """Collect milliseconds by stage in the dictionary it yields, waiting for the device after each stage.

    Nothing is recorded, and the device is not waited for, where `wanted` is False.
    """
    timings: dict[str, float] = {}
    token = _record.set(timings if wanted else None)
    try:
        yield timings
    finally:
        _record.reset(token)


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
    return time.perf_counter()
