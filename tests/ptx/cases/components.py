"""Connected components, and absorption of small ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ovsr_gpu.kernels.components import absorb_small, components_triton, connected_components
from ptx.launch import LaunchOptions
from ptx.runner import Case

TUNINGS: dict[str, dict[str, int]] = {
    "default": {},
    "small": {"BLOCK": 64, "num_warps": 2},
    "one warp": {"BLOCK": 64, "num_warps": 1},
}


def comb(height: int, width: int) -> torch.Tensor:
    """Return labels with one long winding component: teeth that touch at alternating ends."""
    labels = torch.zeros(1, height, width, dtype=torch.int64)
    labels[0, 1::4, :-1] = 1
    labels[0, 3::4, 1:] = 1
    return labels


def random_labels(height: int, width: int, levels: int) -> torch.Tensor:
    """Return two images of independent random labels."""
    return torch.randint(0, levels, (2, height, width), generator=torch.Generator().manual_seed(levels))


def make_components_case(name: str, labels: torch.Tensor, tuning: str, **settings: Any) -> Case:
    """Return a case of `connected_components`."""
    changes = ((components_triton, TUNINGS[tuning]),)
    return Case(name=f"components {name}", run=partial(connected_components, labels), tuning=changes, **settings)


def make_absorb_case(name: str, labels: torch.Tensor, min_cells: float, tuning: str, **settings: Any) -> Case:
    """Return a case of `absorb_small` on the components of some labels."""
    components = connected_components(labels, backend="torch")
    run = partial(absorb_small, components, min_cells)
    changes = ((components_triton, TUNINGS[tuning]),)
    return Case(name=f"absorb {min_cells} {name}", run=run, tuning=changes, **settings)


def cases() -> Iterator[Case]:
    """Yield small grids of random and of winding components, in three tunings and two schedules."""
    numbers = itertools.count()
    sides = ((1, 1), (1, 9), (7, 5), (10, 13), (17, 19))
    for tuning, side, levels in itertools.product(TUNINGS, sides, (1, 2, 4)):
        labels = torch.cat([random_labels(*side, levels), comb(*side)])
        slow = tuning == "one warp" or (tuning == "default" and side[0] > 10)
        for schedule in ("lockstep",) if slow else ("lockstep", "warps"):
            number = next(numbers)
            min_cells = (2.5, 9, 10_000, 0)[number % 4]
            name = f"{side} levels {levels} {tuning} {schedule}"
            settings = {"number": number, "options": LaunchOptions(schedule=schedule, seed=number)}
            yield make_components_case(name, labels, tuning, **settings)
            if side[0] <= 10:
                yield make_absorb_case(name, labels, min_cells, tuning, **settings)


def large_cases() -> Iterator[Case]:
    """Yield images of more than one block."""
    for min_cells, (height, width), levels in ((9, (28, 28), 3), (4, (23, 31), 2)):
        labels = random_labels(height, width, levels)
        name = f"{height}x{width} levels {levels}"
        for schedule in ("lockstep", "warps"):
            options = LaunchOptions(schedule=schedule)
            yield make_components_case(f"{name} {schedule}", labels, "default", options=options)
        yield make_absorb_case(name, labels, min_cells, "default", number=1)


def strict_cases() -> Iterator[Case]:
    """Yield cases in which only the barriers of the source count."""
    labels = torch.randint(0, 3, (2, 10, 13), generator=torch.Generator().manual_seed(1))
    options = LaunchOptions(strict=True)
    for tuning in ("default", "small"):
        yield make_components_case(f"{tuning} strict", labels, tuning, options=options)
        yield make_absorb_case(f"{tuning} strict", labels, 9, tuning, options=options)
