"""Print the modelled cost of clustering one image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch

import point_sets
from ovsr_gpu.kernels.linkage import distance_linkage, grid_edges, pixel_graph_linkage
from ptx.cases.full_graph import distances_between
from ptx.cost_model import launch_cost
from ptx.findings import Findings
from ptx.launch import LaunchOptions
from ptx.runner import Case, Outcome, Runner

RANK = 16


def cases() -> Iterator[Case]:
    """Yield one image of 12 by 12 and of 28 by 28 pixels; one CTA works on it."""
    options = LaunchOptions(detect_races=False, count_accesses=True)
    for side in (12, 28):
        points = point_sets.smooth(side, RANK, seed=1).float()
        edges = grid_edges(side, side, "4", torch.device("cpu"))
        distances = distances_between(points)
        runs = {
            "full ward": partial(distance_linkage, distances, "ward"),
            "pixel ward": partial(pixel_graph_linkage, points, edges),
        }
        if side == 12:
            runs["full average"] = partial(distance_linkage, distances, "average")
            runs["full single"] = partial(distance_linkage, distances, "single")
            runs["pixel average"] = partial(pixel_graph_linkage, points, edges, "average")
        for name, run in runs.items():
            yield Case(f"cost {name} smooth P={side * side} R={RANK}", run, options=options)


def run_costs(runner: Runner) -> None:
    """Run the cases and print the cost of each launch."""
    for case in cases():
        if runner.wants(case.name):
            start = time.monotonic()
            result, launches = case.emulate(Findings())
            passed = case.check(result, case.expected())
            runner.add(Outcome(case.name, passed, f"{time.monotonic() - start:.0f} s"))
            for launch in launches:
                print(*(f"    {line}" for line in launch_cost(launch).report()), sep="\n", flush=True)
