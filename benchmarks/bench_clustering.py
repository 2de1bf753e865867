"""Benchmark of the clustering kernels and of other libraries: `pytest benchmarks/bench_clustering.py`."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest

from clustering.cases import TINY_SIDE, cases
from clustering.libraries import worker_processes
from clustering.measure import measure
from clustering.providers import reason_to_skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    selected = cases(metafunc.config.getoption("--full"))
    if metafunc.config.getoption("--tiny"):
        selected = [case for case in selected if case.side == TINY_SIDE and not case.provider.endswith("_processes")]
    metafunc.parametrize("case", selected, ids=str)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with worker_processes() as pool:
        yield pool


def test_clustering(request, case, device, rates, results, optional_benchmark, record_property):
    if reason := reason_to_skip(case, device):
        pytest.skip(reason)
    pool = request.getfixturevalue("pool") if case.provider.endswith("_processes") else None
    row = measure(case, device, rates, pool, optional_benchmark)
    results.add(row)
    record_property("row", row)
