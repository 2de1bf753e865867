"""A few small cases of every kernel, which take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ptx import controls, example_kernel
from ptx.cases import components, crops, full_graph, pixel_graph, spectral
from ptx.cases.full_graph import WARPS
from ptx.runner import Case, Runner


def clustering_cases() -> Iterator[Case]:
    """Yield linkage on both graphs."""
    single, double = full_graph.DTYPES
    yield full_graph.make_case("ward", "normal", 36, single, "small", 0)
    yield full_graph.make_case("ward", "integer", 36, single, "small", 1, options=WARPS)
    yield full_graph.make_case("single", "smooth", 17, single, "small", 2)
    yield pixel_graph.make_case("ward", "integer", 6, single, "small", 0)
    yield pixel_graph.make_case("average", "smooth", 4, double, "small", 1, options=WARPS)


def image_cases() -> Iterator[Case]:
    """Yield components, crops, spectra and the example kernel."""
    yield from example_kernel.cases()
    labels = torch.cat([components.random_labels(5, 7, 3), components.comb(5, 7)])
    yield components.make_components_case("5x7", labels, "one warp")
    yield components.make_absorb_case("5x7", labels, 4, "small", options=WARPS)
    window = "padded above, cut at the left"
    wanted = {"crops whole normalized masked", f"crops {window} normalized masked", "spectral normal (3, 11) small"}
    yield from (case for case in (*crops.cases(), *spectral.cases()) if case.name in wanted)


def run_images(runner: Runner) -> None:
    """Run the other kernels, the faults of the example, and the components without their first barrier."""
    runner.run_all(image_cases())
    edits = [edit for edit in controls.missing_barriers() if edit.file.startswith("components/")]
    controls.run_controls(runner, edits[:1])
