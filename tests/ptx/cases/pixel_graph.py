"""Linkage on the graph of neighboring pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import point_sets
from ovsr_gpu.kernels.linkage import edge_linkage, grid_edges, pixel_graph_linkage, pixel_graph_triton
from ptx.cases.full_graph import DTYPES, WARPS, describe, masks
from ptx.runner import Case

METHODS = ("ward", "average", "complete", "single")
TUNINGS: dict[str, dict[str, int]] = {
    "default": {},
    "small": {"BLOCK": 64, "ROWS": 4, "COLUMNS": 16, "num_warps": 2},
    "one warp": {"BLOCK": 64, "ROWS": 4, "COLUMNS": 16, "num_warps": 1},
}


def edge_weights(points: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Return the squared lengths of the edges of each image."""
    return (points[:, edges[:, 0]] - points[:, edges[:, 1]]).square().sum(2)


def twice(edges: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every edge a second time, the other way round and heavier."""
    return torch.cat([edges, edges.flip(1)]), torch.cat([weights, weights + 1], dim=1)


def make_case(
    method: str,
    kind: str,
    side: int,
    dtype: torch.dtype,
    tuning: str,
    number: int,
    *,
    images: int = 2,
    connectivity: str = "4",
    doubled: bool = False,
    mask: torch.Tensor | None = None,
    stop_at: int | torch.Tensor = 1,
    **settings: Any,
) -> Case:
    """Return a case on a grid of side * side pixels; `settings` are those of `Case`."""
    points = getattr(point_sets, kind)(side, 3, seed=1, images=images).to(dtype)
    edges = grid_edges(side, side, connectivity, torch.device("cpu"))
    weights = edge_weights(points, edges)
    if doubled:
        edges, weights = twice(edges, weights)
    if method == "ward":
        run = partial(pixel_graph_linkage, points, edges, mask=mask, stop_at=stop_at)
    else:
        run = partial(edge_linkage, weights, edges, side * side, method, mask=mask, stop_at=stop_at)
    variant = f"{tuning}{' masked, doubled' if doubled else ''}{describe(settings)}"
    return Case(
        name=f"pixel {method} {kind} side={side}/{connectivity} {str(dtype)[6:]} {variant}",
        run=run,
        number=number,
        tuning=((pixel_graph_triton, TUNINGS[tuning]),),
        **settings,
    )


def cases() -> Iterator[Case]:
    """Yield all methods on small grids of several kinds, in both types and three tunings."""
    numbers = itertools.count()
    for method in METHODS:
        for side, kind, connectivity in (
            (4, "normal", "4"),
            (5, "integer", "8"),
            (2, "constant", "4"),
            (1, "normal", "4"),
        ):
            for dtype in DTYPES:
                yield make_case(method, kind, side, dtype, "default", next(numbers), connectivity=connectivity)
    stop_at = torch.tensor([1, 3, 2, 1])
    for method in METHODS:
        for dtype in DTYPES:
            masked = {"images": 4, "doubled": True, "mask": masks(25, 4), "stop_at": stop_at}
            yield make_case(method, "normal", 5, dtype, "small", next(numbers), **masked)
            number = next(numbers)
            yield make_case(method, "integer", 6, dtype, "small", number, options=WARPS)
            yield make_case(method, "smooth", 7, dtype, "small", number, options=WARPS)
    for method in METHODS:
        for side, kind, tuning, connectivity in (
            (8, "smooth", "small", "8"),
            (7, "constant", "default", "4"),
            (10, "integer", "one warp", "4"),
            (12, "smooth", "default", "4"),
            (12, "integer", "small", "8"),
            (12, "constant", "small", "4"),
        ):
            number = next(numbers)
            yield make_case(method, kind, side, DTYPES[number % 2], tuning, number, connectivity=connectivity)
