"""Benchmark of how the cost of the whole method grows with the workload: `pytest benchmarks/bench_growth.py`."""

from __future__ import annotations

import pytest

from ovsr_gpu import Segmenter
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.runtime.device import choose_device
from pipeline.cases import cases, tiny_cases
from pipeline.measure import config_of, measure

pytestmark = pytest.mark.usefixtures("separate_text_cache")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    options = metafunc.config
    device = choose_device(options.getoption("--device"))
    selected = tiny_cases() if options.getoption("--tiny") else cases(device.type, options.getoption("--full"))
    metafunc.parametrize("case", selected, ids=str)


def test_growth(case, device, backbone, random_clips, growth_results, optional_benchmark, record_property):
    blocks, backbone_weights = backbone
    segmenter = Segmenter(Pipeline(blocks, random_clips(case.model), config_of(case), device))
    row = measure(case, segmenter, backbone_weights, optional_benchmark)
    growth_results.add(row)
    record_property("row", row)
