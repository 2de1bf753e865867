"""The clustering benchmark: its providers agree, its results are correct, and it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from clustering.bounds import Rates, min_seconds
from clustering.cases import Case, cases
from clustering.points import made_points
from clustering.providers import prepare
from clustering.results import Results, measured_row, report
from oracles import partition
from plot_clustering import draw

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
MACHINE = {
    "device": "cpu",
    "cpu": "a processor",
    "cores": 2,
    "versions": {"torch": "2.11.0", "triton": "not installed"},
}


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def result_of(operation: str, provider: str, dtype: str, data: str = "smooth"):
    return prepare(Case(operation, provider, dtype, side=10, batch=3, data=data), CPU, None)()


@pytest.mark.parametrize("data", ["smooth", "noise", "constant", "constant_75"])
def test_providers_of_the_full_graph_agree(data):
    heights = result_of("full", "torch", "float32", data).heights
    for library in ("scipy", "fastcluster"):
        trees = result_of("full", library, "float64", data)
        np.testing.assert_allclose(heights, np.stack([tree[:, 2] for tree in trees]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("provider", ["heap", "torch"])
@pytest.mark.parametrize("data", ["smooth", "noise", "constant", "constant_75"])
def test_providers_of_the_pixel_graph_agree(data, provider):
    tree = result_of("pixel", provider, "float64", data)
    for image, (children, distances) in enumerate(result_of("pixel", "sklearn", "float64", data)):
        assert np.array_equal(tree.children[image], np.sort(children, axis=1))
        np.testing.assert_allclose(tree.heights[image], distances, atol=1e-12)


def test_providers_of_the_cut_agree():
    labels, expected = result_of("cut", "torch", "int64"), result_of("cut", "scipy", "float64")
    assert len(labels) == len(expected) == 3
    for ours, theirs in zip(labels, expected, strict=True):
        assert len(partition(ours)) == 8
        assert partition(ours) == partition(theirs)


def test_kinds_of_made_points():
    points = {data: made_points(Case("full", "torch", "float32", data=data)) for data in ("smooth", "noise")}
    steps = {data: (made.view(8, 28, 28, 16).diff(dim=1).std() / made.std()).item() for data, made in points.items()}
    assert (
        steps["smooth"] < 0.5 < 1.3 < steps["noise"]
    )  # differences of independent neighbors have a deviation of sqrt(2)
    colors = [len(image.unique(dim=0)) for image in made_points(Case("full", "torch", "float32", data="constant_75"))]
    assert colors == [1 + 28 * 7] * 8


def test_full_cases_contain_all_combinations():
    default, full = cases(full=False), cases(full=True)
    assert len(set(map(str, full))) == len(full)
    assert set(default) < set(full)
    combinations = {(case.side, case.batch, case.data) for case in full if case[:3] == ("pixel", "triton", "float64")}
    for side in (28, 40, 56, 64):
        for batch in (1, 8, 64, 256):
            assert all((side, batch, data) in combinations for data in ("smooth", "noise", "constant", "constant_75"))


@pytest.mark.parametrize(
    ("operation", "float32_rate", "seconds"),
    [
        ("full", 1.0, 2 * 128),  # recomputed, bound by 4 points of 4 bytes and 4 merges of 28 bytes
        ("full", 0.1, 2 * 277 + 2 / 3),  # stored, bound by those and 4 bytes x (16 + 64/3) distances
        ("full", 0.01, 2 * 2400),  # stored, bound by 8 distances of 3 operations
        ("pixel", 0.1, 2 * 780),  # 26 distances
        ("cut", 0.1, 2 * 96),
    ],
)
def test_min_seconds_of_each_operation(operation, float32_rate, seconds):
    case = Case(operation, "triton", "int64" if operation == "cut" else "float32", side=2, batch=2, rank=1)
    assert min_seconds(case, Rates(bytes=1, float32=float32_rate, float64=1)) == pytest.approx(seconds)


def test_measured_row_has_quantiles():
    row = measured_row(Case("full", "triton", "float32"), [i / 1000 for i in range(1, 102)], 5, 0.0051)
    assert (row["p50_ms"], row["p90_ms"], row["p99_ms"], row["rounds"]) == (51, 91, 100, 101)
    assert row["images_per_second"] == pytest.approx(8 / 0.051, rel=1e-3)
    assert row["fraction_of_bound"] == 0.1


@pytest.mark.slow
@pytest.mark.parametrize("plugin", ["benchmark", "no:benchmark"])
def test_benchmark_runs(plugin, tmp_path):
    """The benchmark runs with and without pytest-benchmark."""
    file, extra = tmp_path / "new" / "results.json", [] if plugin == "benchmark" else ["-p", plugin]
    command = [sys.executable, "-m", "pytest", "benchmarks/bench_clustering.py", "--device", "cpu"]
    output = run(
        *command,
        "-k",
        "10x10 and (cut or heap or fastcluster)",
        "--results",
        str(file),
        "-p",
        "no:cacheprovider",
        *extra,
    )
    written = json.loads(file.read_text())
    assert written["machine"]["versions"]["torch"] == version("torch")
    small = [case for case in cases(full=False) if case.side == 10 and case.provider != "triton"]
    expected = [case for case in small if case.operation == "cut" or case.provider.startswith(("heap", "fastcluster"))]
    assert [tuple(row[field] for field in Case._fields) for row in written["rows"]] == expected
    for row in written["rows"]:
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["rounds"] >= 2
        assert row["peak_bytes"] is None
    assert report(written["rows"]) in output


def made_results(path: Path | None) -> Results:
    results = Results(path, MACHINE)
    for side in (10, 28):
        results.add(measured_row(Case("full", "scipy_processes", "float64", side=side), [0.016 * side] * 3, None, None))
        results.add(measured_row(Case("full", "triton", "float32", side=side), [0.008 * side] * 3, 2_000_000, 0.004))
    return results


def test_report_has_a_column_per_series():
    lines = report(made_results(None).rows).splitlines()
    assert "| data | grid | R | batch | SciPy, all cores | Triton float32 |" in lines
    assert "| smooth | 10x10 | 16 | 8 | 20 | 10 |" in lines
    entry = "full-triton-float32-10x10-B8-R16-smooth"
    assert f"| {entry} | 80 | 80 | 80 | 3 | 100 | 2.0 | 5.00% |" in lines


def test_plot_and_its_tables(tmp_path):
    results = made_results(tmp_path / "results.json")
    over_points = draw(results).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in over_points.get_lines()}
    assert lines == {
        "SciPy, all cores": [[100, 20], [784, 56]],
        "Triton float32": [[100, 10], [784, 28]],
    }
    output = run(sys.executable, "benchmarks/plot_clustering.py", str(tmp_path / "results.json"))
    assert output == f"a processor, 2 cores; torch 2.11.0\n\n{report(results.rows)}\n\n"
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
