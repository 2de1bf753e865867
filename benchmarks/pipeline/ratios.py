"""The table of `bench_pipeline.py`: how fast the package is beside its torch twins and beside the reference."""

from __future__ import annotations

from collections.abc import Iterator

Ratios = dict[str, dict[str, dict[str, float]]]
"""Median seconds a picture, by workload, stage and provider."""


def ratio_lines(ratios: Ratios) -> Iterator[str]:
    """For each workload a line a stage, in milliseconds; the ratio is that of the reference to the package."""
    for workload, stages in ratios.items():
        yield f"{workload:36}{'ours':>10}{'twin':>10}{'reference':>11}{'ratio':>8}"
        for stage, medians in stages.items():
            ours, twin, reference = (medians.get(provider) for provider in ("ours", "twin", "reference"))
            ratio = f"{reference / ours:8.2f}" if ours and reference else ""
            yield f"{stage:36}{cell(ours, 10)}{cell(twin, 10)}{cell(reference, 11)}{ratio}".rstrip()
        whole, networks = (stages.get(stage, {}).get("ours") for stage in ("end to end", "networks alone"))
        if whole and networks:
            yield f"{'  of end to end':36}{networks / whole:10.0%}"
        if whole:
            yield f"{'  pictures/s end to end':36}{1 / whole:10.2f}"


def cell(seconds: float | None, width: int) -> str:
    return " " * width if seconds is None else f"{1e3 * seconds:{width}.2f}"
