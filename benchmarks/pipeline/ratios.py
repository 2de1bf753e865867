"""The table of `bench_pipeline.py`: the speed of the package, of its torch backend and of the reference."""

from __future__ import annotations

from collections.abc import Iterator

from clustering.results import Row

Ratios = dict[str, dict[str, dict[str, Row]]]
"""Rows by workload, stage and provider."""


def ratio_lines(ratios: Ratios) -> Iterator[str]:
    """Yield a line for each stage of each workload, in milliseconds per image.

    The ratio is the reference's median over the package's: above 1 the package is faster.
    """
    for workload, stages in ratios.items():
        yield f"{workload:36}{'p50':>10}{'p95':>10}{'torch p50':>10}{'reference':>11}{'ratio':>8}"
        for stage, rows in stages.items():
            ours, torch, reference = (image_ms(rows.get(provider)) for provider in ("ours", "torch", "reference"))
            slow = image_ms(rows.get("ours"), "p95_ms")
            ratio = f"{reference / ours:8.2f}" if ours and reference else ""
            yield f"{stage:36}{cell(ours, 10)}{cell(slow, 10)}{cell(torch, 10)}{cell(reference, 11)}{ratio}".rstrip()
        whole, networks = (image_ms(stages.get(stage, {}).get("ours")) for stage in ("end to end", "networks alone"))
        if whole and networks:
            yield f"{'  of end to end':36}{networks / whole:10.0%}"
        if whole:
            yield f"{'  images/s end to end':36}{1e3 / whole:10.2f}"


def image_ms(row: Row | None, quantile: str = "p50_ms") -> float | None:
    return None if row is None else row[quantile] / row["batch"]


def cell(milliseconds: float | None, width: int) -> str:
    return " " * width if milliseconds is None else f"{milliseconds:{width}.2f}"
