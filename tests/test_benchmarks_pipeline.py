"""The benchmarks of the whole method: cases, results, tables and plots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clustering.results import Results
from ovsr_gpu.kernels.backend import choose_backend
from patchwork import tiles
from pipeline.cases import LARGE_MODEL, SWEEPS, Case, base_case, cases
from pipeline.memory import peak_bytes
from pipeline.ratios import ratio_lines
from pipeline.results import growth_row, report, rows_along, stage_row
from pipeline.torch_backend import use_torch_backend
from plot_pipeline import draw

ROOT = Path(__file__).resolve().parent.parent
MACHINE = {
    "device": "cpu",
    "cpu": "a processor",
    "cores": 2,
    "versions": {"torch": "2.11.0", "triton": "not installed"},
}


def made_row(case: Case, **changes):
    """Return the row of a call that takes 10 ms per image and 5 ms per region."""
    seconds = case.batch * (0.01 + 0.005 * case.regions)
    measured = {
        "regions": case.batch * case.regions,
        "stream_images_per_second": 2 * case.batch / seconds,
        "peak_bytes": 3_000_000 * case.batch,
        "backbone": "random",
        "precision": "float32",
    }
    return growth_row(case, [seconds] * 3, [seconds / 2] * 3, **measured | changes)


def made_results(path: Path | None = None) -> Results:
    results = Results(path, MACHINE)
    for case in cases("cpu", full=False):
        results.add(made_row(case))
    return results


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_cases_vary_each_axis(device):
    default, full = cases(device, full=False), cases(device, full=True)
    assert len(set(map(str, full))) == len(full)
    assert set(default) <= set(full)
    base = base_case(device)
    assert default[0] == base._replace(batch=1)
    assert default[1] == base
    for axis, values in SWEEPS.items():
        for value in values:
            if device == "cuda" or axis != "batch" or value <= 8:
                assert base._replace(**{axis: value}) in default
    for regions in SWEEPS["regions"]:
        assert base._replace(encoder="dense", regions=regions) in default
    for regions in (1, 4, 8, 16):
        for encoder in ("crop", "dense"):
            assert base._replace(model="ViT-B-16", encoder=encoder, regions=regions) in default
    assert sum(case.model == LARGE_MODEL for case in full) == 1
    assert {case.batch for case in set(full) - set(default)} == ({64, 128} if device == "cuda" else set())


@pytest.mark.parametrize("count", SWEEPS["regions"])
def test_tiles_are_equal_and_of_different_colors(count):
    image = tiles(64, 96, count, np.random.default_rng(0))
    assert image.shape == (64, 96, 3)
    colors, pixels = np.unique((image.reshape(-1, 3).astype(int) + 50) // 100, axis=0, return_counts=True)
    assert len(colors) == count
    assert (pixels == 64 * 96 / count).all()


def test_growth_row_has_quantiles():
    row = growth_row(
        Case(batch=4),
        [i / 100 for i in range(1, 102)],
        [0.1, 0.102, 9.0],
        regions=30,
        stream_images_per_second=12.34567,
        peak_bytes=5,
        backbone="random",
        precision="float16",
    )
    assert (row["p50_ms"], row["p95_ms"], row["rounds"]) == (510, 960, 101)
    assert row["images_per_second"] == pytest.approx(4 / 0.51, rel=1e-3)
    assert row["stream_images_per_second"] == 12.35
    assert row["regions_per_image"] == 7.5
    assert (row["networks_ms"], row["networks_fraction"]) == (102, 0.2)
    assert Case(*(row[field] for field in Case._fields)) == Case(batch=4)


def test_rows_along_an_axis():
    results = made_results()
    assert [row["size"] for row in rows_along(results, "size")] == list(SWEEPS["size"])
    assert [row["batch"] for row in rows_along(results, "batch")] == [1, 2, 4, 8]
    series = {(row["model"], row["encoder"]) for row in rows_along(results, "regions")}
    assert series == {(model, encoder) for model in ("ViT-B-32", "ViT-B-16") for encoder in ("crop", "dense")}


def test_report_has_a_row_per_case():
    text = report(made_results())
    assert "random weights" in text
    lines = text.splitlines()
    assert "| ViT-B-32 | crop | 8 | 2 | 20 | 50% | 50 |" in lines  # overview
    assert "| ViT-B-32 | crop | 4 | 2 | 33.3 | 50% |  |" in lines  # no batch of 1
    assert "| ViT-L-14 | crop | 2 | 1 | 50 | 50% | 20 |" in lines  # no other batch
    assert "| ViT-B-16 | dense | 16 | 180.0 | 180.0 | 3 | 11.1 | 22.2 | 16 | 90.0 | 50% | 6 |" in lines
    assert "| 847 | 100.0 | 100.0 | 3 | 20 | 40 | 8 | 50.0 | 50% | 6 |" in lines


def test_report_of_an_interrupted_run():
    results = Results(None, MACHINE)
    results.add(made_row(base_case("cpu"), stream_images_per_second=None, peak_bytes=None))
    assert "| 640x480 | 100.0 | 100.0 | 3 | 20 |  | 8 | 50.0 | 50% |  |" in report(results).splitlines()
    assert not any(panel.axison for panel in draw(results).axes)


def test_plot_and_its_tables(tmp_path):
    results = made_results(tmp_path / "results.json")
    panels = {(panel.get_title("left"), panel.get_xlabel()): panel for panel in draw(results).axes}

    def lines(*panel: str):
        return {line.get_label(): line.get_xydata().tolist() for line in panels[panel].get_lines()}

    by_model = lines("Models and encoders", "regions per image")
    assert by_model["ViT-B-32, crop"] == [[1, 15], [2, 20], [4, 30], [8, 50], [16, 90]]
    assert [place for place, _ in by_model["ViT-B-16, dense"]] == [1, 4, 8, 16]
    assert lines("Throughput", "images per batch")["stream of batches"] == [[1, 40], [2, 40], [4, 40], [8, 40]]
    assert lines("Peak memory", "images per batch")["one call"] == [[1, 3], [2, 6], [4, 12], [8, 24]]
    command = [sys.executable, "benchmarks/plot_pipeline.py", str(tmp_path / "results.json")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout
    assert output == f"a processor, 2 cores; torch 2.11.0\n\n{report(results)}\n\n"
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_ratio_lines_per_image():
    def rows(**milliseconds):
        return {name: {"p50_ms": 4 * ms, "p95_ms": 6 * ms, "batch": 4} for name, ms in milliseconds.items()}

    stages = {
        "linkage": rows(ours=2, torch=6, reference=4),
        "end to end": rows(ours=20),
        "networks alone": rows(ours=5),
    }
    lines = [line.split() for line in ratio_lines({"batch 4": stages})]
    assert lines == [
        ["batch", "4", "p50", "p95", "torch", "p50", "reference", "ratio"],
        ["linkage", "2.00", "3.00", "6.00", "4.00", "2.00"],
        ["end", "to", "end", "20.00", "30.00"],
        ["networks", "alone", "5.00", "7.50"],
        ["of", "end", "to", "end", "25%"],
        ["images/s", "end", "to", "end", "50.00"],
    ]


def test_stage_row_has_quantiles():
    row = stage_row("crops", "ours", {"batch": 2, "grid": 40}, [i / 1000 for i in range(1, 102)])
    assert row == {
        "stage": "crops",
        "provider": "ours",
        "batch": 2,
        "grid": 40,
        "rounds": 101,
        "p50_ms": 51,
        "p95_ms": 96,
        "images_per_second": 39.22,
    }


def test_torch_backend_replaces_triton():
    on_cuda = SimpleNamespace(is_cuda=True, is_cpu=False)
    with use_torch_backend():
        assert choose_backend("auto", on_cuda) == "torch"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_bytes_of_a_call():
    """The peak is also measured if a previous call used as much memory."""
    for _ in range(2):
        peak = peak_bytes(lambda: torch.ones(25_000_000), torch.device("cpu"))
        assert 95e6 < peak < 130e6
