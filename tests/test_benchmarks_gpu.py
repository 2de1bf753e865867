"""The GPU command: parts and tests are isolated from each other, and the time limits hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gpu.sh is for Linux")

PLANTED = """
import os, signal, time

def test_before(): pass
def test_row(record_property): record_property("row", {"p50_ms": 2.5})
def test_fails(): assert 1 == 2
def test_hangs(): time.sleep(60)
def test_hangs_no_more(): pass
def test_crashes(): os.kill(os.getpid(), signal.SIGSEGV)
def test_loses_the_device(): raise RuntimeError("CUDA error: an illegal memory access was encountered")
def test_needs_the_device(): pass
"""


@pytest.mark.slow
def test_a_crash_or_hang_costs_one_test(tmp_path):
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "test_missing.py").write_text("import a_missing_package\ndef test_it(): pass\n")
    results = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/isolated.py", "--device", "cpu", "--results", str(results), "--jobs", "2"]
    nodes = [
        str(tmp_path / "test_planted.py"),
        str(tmp_path / "test_missing.py"),
        f"{tmp_path}/test_planted.py::test_unknown",
    ]
    done = subprocess.run([*command, "--test-seconds", "6", *nodes], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    written = json.loads(results.read_text())
    rows = {re.split("::|/", row["test"])[-1]: row for row in written["rows"]}
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "test_before": "passed",
        "test_row": "passed",
        "test_fails": "failed",
        "test_hangs": "crashed",
        "test_hangs_no_more": "passed",
        "test_crashes": "crashed",
        "test_loses_the_device": "failed",
        "test_needs_the_device": "passed",
        "test_missing.py": "failed",
        "test_unknown": "crashed",
    }
    assert rows["test_row"]["p50_ms"] == 2.5
    assert "silent for 6 s" in rows["test_hangs"]["error"]
    assert "status -11" in rows["test_crashes"]["error"]
    assert "pytest ended with exit status 4" in rows["test_unknown"]["error"]
    assert "a_missing_package" in rows["test_missing.py"]["error"]
    assert written["machine"]["device"] == "cpu"
    assert len(written["machine"]["commit"].split()[0]) >= 40 or "SHA-256" in written["machine"]["commit"]
    assert written["machine"]["command"].endswith("test_unknown")


def run_with_stub(tmp_path: Path, stub: str, *options: str) -> tuple[int, str, list[list[str]]]:
    """Run gpu.sh with a shell script as Python; return its status, its output and the arguments of each part."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{stub}\n')
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "OUT": str(tmp_path / "out"), "DEVICE": "cpu"}
    done = subprocess.run(["benchmarks/gpu.sh", *options], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, [line.split() for line in (tmp_path / "calls").read_text().splitlines()]


def test_parts_and_their_deadlines(tmp_path):
    start = time.time()
    status, output, calls = run_with_stub(tmp_path, 'case "$*" in *headline*) exit 1;; esac')
    assert status == 1
    assert "failed or out of time: headline" in output
    names = [Path(call[call.index("--results") + 1]).name for call in calls]
    parts = ("smoke", "headline", "tests", "stages", "growth", "clustering")
    assert names == [f"{part}_cpu.json" for part in parts]
    deadlines = [float(call[call.index("--deadline") + 1]) - start for call in calls]
    assert deadlines == sorted(deadlines)
    assert deadlines[-1] <= 534  # plus at most six seconds to kill the remaining processes
    nodes = calls[2][calls[2].index("60") + 1 : calls[2].index("--")]
    assert {"tests/test_gpu.py", "tests/kernels/linkage/test_triton.py"} <= set(nodes)
    assert all((ROOT / node).is_file() for node in nodes)


def test_quick_runs_two_parts(tmp_path):
    start = time.time()
    status, output, calls = run_with_stub(tmp_path, "exit 0", "--quick")
    assert (status, len(calls)) == (0, 2)
    assert "all parts passed" in output
    assert float(calls[1][calls[1].index("--deadline") + 1]) - start <= 174


def test_rejects_unknown_options(tmp_path):
    done = subprocess.run(["benchmarks/gpu.sh", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "usage: benchmarks/gpu.sh [--quick]\n")


def test_stops_if_the_device_is_unusable(tmp_path):
    status, _, calls = run_with_stub(tmp_path, "exit 2")
    assert (status, len(calls)) == (2, 1)
