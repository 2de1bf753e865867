"""Leading singular directions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from ovsr_gpu.kernels.spectral import leading_directions, leading_svd, spectral_triton
from ptx.launch import LaunchOptions
from ptx.runner import Case

SHAPES = ((1, 1), (7, 1), (5, 2), (3, 11), (40, 12))
TUNINGS: dict[str, dict[str, int]] = {
    "default": {},
    "small": {"num_warps": 2, "TILE": 64},
    "one warp": {"num_warps": 1, "TILE": 32},
}
SPECTRA = ("normal", "decaying", "degenerate", "deficient", "zero")
"""Singular values: of random entries; down to a millionth; several equal; all zero but one; all zero."""


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_matrix(spectrum: str, num_rows: int, num_columns: int) -> torch.Tensor:
    """Return a float64 matrix whose singular values are as named."""
    rank = min(num_rows, num_columns)
    if spectrum == "normal":
        return _random(num_rows, num_columns)
    values = {
        "decaying": 10.0 ** -np.linspace(0, 6, rank),
        "degenerate": np.array([3.0, 3.0, 3.0, 1.0, 1.0]),
        "deficient": np.array([2.0] + [0.0] * (rank - 1)),
        "zero": np.zeros(1),
    }[spectrum]
    left, _ = np.linalg.qr(_random(num_rows, rank).numpy())
    right, _ = np.linalg.qr(_random(num_columns, rank, seed=1).numpy())
    return torch.from_numpy(left * np.resize(values, rank) @ right.T)


def same_components(result: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> bool:
    """Return whether two decompositions agree, whatever the signs of their components."""
    largest = float(expected[1].max()) + 1e-30
    torch.testing.assert_close(result[1], expected[1], atol=2e-7 * largest, rtol=1e-6)
    ours, theirs = (components.double() @ components.double().mT for components in (result[0], expected[0]))
    torch.testing.assert_close(ours, theirs, atol=1e-5 * largest**2, rtol=1e-7)
    return True


def same_projector(result: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether directions span the same spaces."""
    torch.testing.assert_close(result.mT @ result, expected.mT @ expected, atol=1e-8, rtol=1e-7)
    return True


def cases() -> Iterator[Case]:
    """Yield small matrices of every spectrum, and ragged groups of rows, in three tunings."""
    numbers = itertools.count()
    group = torch.tensor([3, 0, 0, 3, 2, 3, 3, 0, 3, 0, 3, 2, 0, 3, 0, 3, 3])
    rows = _random(len(group), 7)
    for tuning, settings in TUNINGS.items():
        changes = ((spectral_triton, settings),)
        for spectrum, shape in itertools.product(SPECTRA, SHAPES):
            if tuning == "default" and shape == SHAPES[-1] and spectrum != "normal":
                continue  # slow
            number = next(numbers)
            # The greatest singular value of a degenerate matrix stands there several times: take all of them.
            rank = 8 if spectrum == "degenerate" and min(shape) > 4 else min(4, *shape)
            schedule = "warps" if tuning == "small" and number % 2 else "lockstep"
            yield Case(
                name=f"spectral {spectrum} {shape} {tuning}",
                run=partial(leading_svd, make_matrix(spectrum, *shape).float()[None], rank),
                check=same_components,
                number=number,
                tuning=changes,
                options=LaunchOptions(schedule=schedule),
            )
        run = partial(leading_directions, rows, group, 4, 3)
        name = f"spectral directions {tuning}"
        yield Case(name=name, run=run, check=same_projector, number=next(numbers), tuning=changes)
