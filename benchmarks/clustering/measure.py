"""Timing of one case of the clustering benchmark."""

from __future__ import annotations

import time
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import pytest
import torch

from clustering.bounds import Rates, min_seconds
from clustering.cases import Case
from clustering.providers import OURS, prepare
from clustering.results import Row, measured_row

SECONDS = 0.5  # time budget of each case
MIN_ROUNDS, MAX_ROUNDS = 2, 200


def measure(case: Case, device: torch.device, rates: Rates | None, pool: Pool | None, benchmark: Any) -> Row:
    """Measure a case and return its row; skip the test if the device has too little memory.

    Args:
        case: The case.
        device: Device of the kernels.
        rates: Rates of the CUDA device, for the lower bound; None for no bound.
        pool: The processes of a "..._processes" provider.
        benchmark: Fixture of pytest-benchmark; None to time without it.
    """
    on_cuda = device.type == "cuda" and case.provider in OURS
    call = prepare(case, device, pool)
    seconds: list[float] = []

    @torch.no_grad()
    def run() -> None:
        start = time.perf_counter()
        call()
        if on_cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)

    try:
        run()  # warm-up: imports and compilation
        seconds.clear()
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
            input_bytes = torch.cuda.memory_allocated(device)
        run()
        rounds = int(np.clip(SECONDS / seconds[0], MIN_ROUNDS, MAX_ROUNDS))
        if benchmark is None:
            for _ in range(1, rounds):
                run()
        else:
            benchmark.pedantic(run, rounds=rounds - 1)
    except torch.OutOfMemoryError:
        pytest.skip(f"{device} does not have enough memory for this case")

    peak_bytes = torch.cuda.max_memory_allocated(device) - input_bytes if on_cuda else None
    bound = min_seconds(case, rates) if on_cuda and rates is not None else None
    row = measured_row(case, seconds, peak_bytes, bound)
    if benchmark is not None:
        benchmark.group = f"{case.operation}, {case.data}, {case.side}x{case.side}, R {case.rank}, batch {case.batch}"
        benchmark.extra_info.update(row)
    return row
