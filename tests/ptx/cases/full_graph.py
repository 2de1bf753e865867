"""Linkage on the full graph."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import point_sets
from ovsr_gpu.kernels.linkage import distance_linkage, full_graph_linkage, full_graph_triton, single_triton
from ovsr_gpu.kernels.trees import MergeTree
from ptx.launch import LaunchOptions
from ptx.runner import Case

METHODS = ("ward", "average", "complete", "weighted", "single")
DTYPES = (torch.float32, torch.float64)
TUNINGS: dict[str, dict[str, int]] = {
    "default": {},
    "small": {"BLOCK": 64, "ROWS": 2, "COLUMNS": 32, "num_warps": 2},
    "one warp": {"BLOCK": 64, "ROWS": 4, "COLUMNS": 32, "num_warps": 1},
}
WARPS = LaunchOptions(schedule="warps")


def distances_between(points: torch.Tensor) -> torch.Tensor:
    """Return the distances within each image; by default cdist returns asymmetric ones for more than 25 points."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def make_case(
    method: str,
    kind: str,
    num_points: int,
    dtype: torch.dtype,
    tuning: str,
    number: int,
    *,
    images: int = 2,
    mask: torch.Tensor | None = None,
    stop_at: int | torch.Tensor = 1,
    **settings: Any,
) -> Case:
    """Return a case on points of a kind; `settings` are those of `Case`."""
    side = math.isqrt(num_points - 1) + 1
    points = getattr(point_sets, kind)(side, 3, seed=1, images=images)[:, :num_points].to(dtype)
    full = TUNINGS[tuning]
    single = {name: value for name, value in full.items() if name in single_triton.TUNING}
    masked = "" if mask is None else " masked"
    return Case(
        name=f"full {method} {kind} P={num_points} {str(dtype)[6:]} {tuning}{masked}{describe(settings)}",
        run=partial(distance_linkage, distances_between(points), method, mask=mask, stop_at=stop_at),
        number=number,
        tuning=((full_graph_triton, full), (single_triton, single)),
        **settings,
    )


def describe(settings: dict[str, Any]) -> str:
    """Return what of a case's settings belongs in its name."""
    options = settings.get("options", LaunchOptions())
    text = f" {options.schedule}" if options.schedule != "lockstep" else ""
    text += f" seed {options.seed}" if options.seed else ""
    text += " strict" if options.strict else ""
    return text + (f" sm_{settings['capability']}" if "capability" in settings else "")


def masks(num_points: int, images: int) -> torch.Tensor:
    """Return masks that leave out about 30% of the points, and all of the last image."""
    mask = torch.rand(images, num_points, generator=torch.Generator().manual_seed(0)) > 0.3
    mask[-1] = False
    return mask


def cases() -> Iterator[Case]:
    """Yield all methods on a few points of several kinds, in both types and three tunings."""
    numbers = itertools.count()
    for method in METHODS:
        for num_points, kind in ((17, "normal"), (49, "integer"), (2, "constant"), (3, "smooth"), (1, "normal")):
            for dtype in DTYPES:
                yield make_case(method, kind, num_points, dtype, "default", next(numbers))
    stop_at = torch.tensor([1, 3, 2, 1])
    for method in METHODS:
        for dtype in DTYPES:
            masked = {"images": 4, "mask": masks(36, 4), "stop_at": stop_at}
            yield make_case(method, "smooth", 36, dtype, "small", next(numbers), **masked)
            number = next(numbers)
            yield make_case(method, "integer", 49, dtype, "small", number, options=WARPS)
            yield make_case(method, "normal", 100, dtype, "small", number, options=WARPS)
    for method in METHODS:
        for num_points, kind, tuning in (
            (144, "smooth", "default"),
            (100, "integer", "one warp"),
            (144, "integer", "small"),
            (144, "constant", "small"),
            (144, "normal", "one warp"),
            (64, "constant", "default"),
            (144, "constant", "default"),
        ):
            number = next(numbers)
            yield make_case(method, kind, num_points, DTYPES[number % 2], tuning, number)
    yield from point_cases(numbers)


def point_cases(numbers: Iterator[int]) -> Iterator[Case]:
    """Yield cases that compute the distances on the device, too."""
    for method in ("ward", "average"):
        for rank in (1, 16):
            points = point_sets.normal(6, rank, seed=rank, images=2).float()
            yield Case(
                name=f"full {method} from points, rank {rank} P=36",
                run=partial(full_graph_linkage, points, method),
                check=nearly_equal,
                number=next(numbers),
            )


def nearly_equal(result: MergeTree, expected: MergeTree) -> bool:
    """Return whether trees are the same, up to rounding of their heights."""
    scale = float(expected.heights.max())
    torch.testing.assert_close(result.heights, expected.heights, rtol=1e-5, atol=1e-6 * scale)
    return torch.equal(result.children, expected.children)
