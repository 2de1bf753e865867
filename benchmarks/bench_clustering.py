"""Clustering: our kernels beside SciPy, fastcluster and scikit-learn: `pytest benchmarks/bench_clustering.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing.pool import Pool

import numpy as np
import pytest
import torch

from clustering.bounds import least_seconds
from clustering.cases import cases
from clustering.libraries import worker_processes
from clustering.providers import OURS, prepare, reason_to_skip
from clustering.results import measured_row

SECONDS = 0.5  # to spend on each entry, and at least so many rounds
LEAST_ROUNDS, MOST_ROUNDS = 2, 200


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("case", cases(metafunc.config.getoption("--full")), ids=str)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with worker_processes() as pool:
        yield pool


def test_clustering(request, case, device, rates, results, optional_benchmark):
    if reason := reason_to_skip(case, device):
        pytest.skip(reason)
    pool = request.getfixturevalue("pool") if case.provider.endswith("_processes") else None
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
        run()  # warm-up: imports, compiles
        seconds.clear()
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
            input_bytes = torch.cuda.memory_allocated(device)
        run()
        rounds = int(np.clip(SECONDS / seconds[0], LEAST_ROUNDS, MOST_ROUNDS))
        if optional_benchmark is None:
            for _ in range(1, rounds):
                run()
        else:
            optional_benchmark.pedantic(run, rounds=rounds - 1)
    except torch.OutOfMemoryError:
        pytest.skip(f"{device} has too little memory for this")

    peak_bytes = torch.cuda.max_memory_allocated(device) - input_bytes if on_cuda else None
    floor = least_seconds(case, rates) if on_cuda else None
    row = measured_row(case, seconds, peak_bytes, floor)
    results.add(row)
    if optional_benchmark is not None:
        optional_benchmark.group = (
            f"{case.operation}, {case.data}, {case.side}x{case.side}, R {case.rank}, batch {case.batch}"
        )
        optional_benchmark.extra_info.update(row)
