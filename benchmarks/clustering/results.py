"""Rows of measurements, the machine that they were measured on, their JSON file and their tables."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clustering.cases import Case
from clustering.libraries import cores

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "triton", "cupy-cuda13x", "numpy", "scipy", "scikit-learn", "fastcluster")
LABELS = {
    "triton": "Triton",
    "torch": "torch",
    "heap": "heap",
    "scipy": "SciPy",
    "fastcluster": "fastcluster",
    "sklearn": "scikit-learn",
}
TITLES = {"full": "Ward, full graph", "pixel": "Ward, 4-connected pixel graph", "cut": "Cut into 8 clusters"}
Row = dict[str, Any]


class Results:
    """Rows of a run. With a path, each row is written immediately, so that an interrupted run loses nothing."""

    def __init__(self, path: Path | None, machine: dict[str, Any]) -> None:
        self.path, self.machine, self.rows = path, machine, list[Row]()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.path is not None:
            lines = ",\n".join(json.dumps(row) for row in self.rows)
            part = self.path.with_name(f"{self.path.name}.part")
            part.write_text(f'{{"machine": {json.dumps(self.machine)},\n"rows": [\n{lines}\n]}}\n')
            part.replace(self.path)


def describe_machine(device: torch.device, packages: Sequence[str]) -> dict[str, Any]:
    """Return the device, driver, CPU, package versions, commit and command of this run."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    on_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else device.type,
        "driver": driver_version() if on_cuda else None,
        "cuda": torch.version.cuda if on_cuda else None,
        "cpu": cpu_name(),
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "versions": versions,
        "commit": commit(),
        "command": shlex.join(sys.argv),
    }


def driver_version() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return (output_of(query) or "unknown").splitlines()[0]


def commit() -> str:
    """Return the commit of this checkout; where there is no repository, a digest of the Python files."""
    if description := output_of(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    ):
        return description
    digest = sha256()
    for file in sorted(ROOT.glob("*/**/*.py")):
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return f"no repository; SHA-256 of the Python files {digest.hexdigest()}"


def output_of(command: list[str]) -> str | None:
    """Return the output of a command; None if it fails or is not installed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def describe(machine: dict[str, Any]) -> str:
    """Return the machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number[0].isdigit())
    device = "" if machine["device"] == "cpu" else f"{machine['device']}; "
    return f"{device}{machine['cpu']}, {machine['cores']} cores; {versions}"


def cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def read_results(path: Path) -> Results:
    """Read the rows of a results file; rows of tests that did not pass are left out."""
    content = json.loads(path.read_text())
    results = Results(None, content["machine"])
    results.rows = [row for row in content["rows"] if row.get("outcome", "passed") == "passed"]
    return results


def measured_row(case: Case, seconds: list[float], peak_bytes: int | None, bound: float | None) -> Row:
    """Make the row of a case.

    Args:
        case: The case.
        seconds: Duration of each round.
        peak_bytes: Peak device memory in addition to the input; None where it is not measured.
        bound: Lower bound on the duration in seconds; None where there is none.
    """
    median, ninetieth, ninety_ninth = np.quantile(seconds, [0.5, 0.9, 0.99])
    return {
        **case._asdict(),
        "rounds": len(seconds),
        "p50_ms": round(1e3 * median, 4),
        "p90_ms": round(1e3 * ninetieth, 4),
        "p99_ms": round(1e3 * ninety_ninth, 4),
        "images_per_second": float(f"{case.batch / median:.4g}"),
        "peak_bytes": peak_bytes,
        "fraction_of_bound": bound and float(f"{bound / median:.3g}"),
    }


def series_label(row: Row) -> str:
    """Return the name of a row's series in tables and plots."""
    library, _, processes = row["provider"].partition("_")
    if library in ("triton", "torch", "heap"):
        return f"{LABELS[library]} {row['dtype']}" if row["operation"] != "cut" else LABELS[library]
    return f"{LABELS[library]}, {'all cores' if processes else 'one thread'}"


def report(rows: list[Row]) -> str:
    """Return Markdown tables: a comparison of the series for each operation, then the rows of a CUDA device, if any."""
    parts = [
        f"**{title}**, median milliseconds per image\n\n{comparison_table(of_operation)}"
        for operation, title in TITLES.items()
        if (of_operation := [row for row in rows if row["operation"] == operation])
    ]
    if on_device := [row for row in rows if row["peak_bytes"] is not None]:
        parts.append(f"**On the CUDA device**, latency of a batch\n\n{device_table(on_device)}")
    return "\n\n".join(parts)


def comparison_table(rows: list[Row]) -> str:
    """Return a table with a row per workload and a column per series."""
    series = list(dict.fromkeys(map(series_label, rows)))
    cells: dict[tuple, dict[str, str]] = {}
    for row in rows:
        workload = (row["data"], row["side"], row["rank"], row["batch"])
        cells.setdefault(workload, {})[series_label(row)] = f"{row['p50_ms'] / row['batch']:.3g}"
    return markdown_table(
        ["data", "grid", "R", "batch", *series],
        [
            [data, f"{side}x{side}", rank, batch, *(cells[data, side, rank, batch].get(name, "") for name in series)]
            for data, side, rank, batch in sorted(cells)
        ],
    )


def device_table(rows: list[Row]) -> str:
    return markdown_table(
        ["case", "p50 ms", "p90 ms", "p99 ms", "rounds", "images/s", "peak MB", "fraction of bound"],
        [
            [
                Case(*(row[field] for field in Case._fields)),
                *(f"{row[quantile]:.3g}" for quantile in ("p50_ms", "p90_ms", "p99_ms")),
                row["rounds"],
                f"{row['images_per_second']:.4g}",
                f"{row['peak_bytes'] / 1e6:.1f}",
                f"{row['fraction_of_bound']:.2%}",
            ]
            for row in rows
        ],
    )


def markdown_table(head: list[str], body: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
