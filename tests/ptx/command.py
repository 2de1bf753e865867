"""The command line: `python tests/ptx PART ...` from the project's root."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from ptx import controls, costs, example_kernel
from ptx.cases import components, crops, full_graph, linkage, pixel_graph, quick, spectral
from ptx.runner import Case, Runner


@dataclass(frozen=True)
class Part:
    """What one word of the command line runs."""

    summary: str
    run: Callable[[Runner], None]


def _part(summary: str, make_cases: Callable[[], Iterable[Case]]) -> Part:
    def run(runner: Runner) -> None:
        runner.run_all(make_cases())

    return Part(summary, run)


PARTS = {
    "example": _part("the smallest kernel", example_kernel.cases),
    "full": _part("linkage on the full graph", full_graph.cases),
    "pixel": _part("linkage on the graph of neighboring pixels", pixel_graph.cases),
    "components": _part("connected components, absorption of small ones", components.cases),
    "crops": _part("crops, resized and masked", crops.cases),
    "spectral": _part("singular directions", spectral.cases),
    "targets": _part("linkage on other GPUs, with 16 warps in random order", linkage.target_cases),
    "kinds": _part("linkage of all kinds of points, with warps in random order", linkage.kind_cases),
    "large": _part("larger images, a minute or two for each", linkage.large_cases),
    "gpu_tests": _part("what tests/kernels/linkage runs on a GPU alone; slow", linkage.gpu_test_cases),
    "gpu_masks": _part("masks and early stops on 28 by 28 pixels; slow", linkage.gpu_mask_cases),
    "strict": _part("what rests on the barriers of Triton's reductions", linkage.strict_cases),
    "controls": Part("kernels with faults, which must be noticed", controls.run_controls),
    "cost": Part("modelled microseconds of clustering one image with one CTA", costs.run_costs),
}
QUICK_PARTS = {
    "quick_clustering": _part("small cases of linkage, for pytest", quick.clustering_cases),
    "quick_images": Part("small cases of the other kernels, and some controls, for pytest", quick.run_images),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run parts; return the exit status, 1 if anything fails."""
    parts = PARTS | QUICK_PARTS
    parser = argparse.ArgumentParser(
        prog="python tests/ptx",
        description="Run the compiled kernels in an emulator on the CPU, and report races and stray accesses.",
        epilog="parts:\n" + "\n".join(f"  {name:17} {part.summary}" for name, part in parts.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="+", metavar="PART", choices=["all", *parts])
    parser.add_argument("--only", default="", metavar="TEXT", help="run the cases whose names contain this text")
    parser.add_argument("--minutes", type=float, default=0, help="start no case after this time")
    parser.add_argument("--verbose", action="store_true", help="also list the findings that are not errors")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    runner = Runner(options.only, options.minutes)
    for name in PARTS if "all" in options.parts else options.parts:
        parts[name].run(runner)
    print(*runner.report(options.verbose), sep="\n")
    if not runner.outcomes:
        print("no case ran")
    return 0 if runner.outcomes and runner.all_passed else 1
