"""Synthetic pixel features that are identical on every machine."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from clustering.cases import Case

COARSE_SIDE = 8
NOISE = 0.05
GRAY = 0.3


def made_points(case: Case) -> Tensor:
    """Generate the points of a case.

    The kinds of data: "smooth" resembles the features of a photograph: a coarse random grid, enlarged bicubically, plus
    a little noise. "noise" has no structure. "constant" is a single color, so that all distances tie: the worst case of
    a pixel graph, because every merge is adjacent to the next. "constant_75" is "smooth" with the left three quarters
    in a single color.

    Returns:
        `[B, P, R]` float32 on the CPU.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, case.rank, case.side, case.side)
    noise = torch.randn(shape, generator=generator)
    if case.data == "noise":
        grid = noise
    elif case.data == "constant":
        grid = torch.full(shape, GRAY)
    else:
        coarse = torch.randn(case.batch, case.rank, COARSE_SIDE, COARSE_SIDE, generator=generator)
        grid = interpolate(coarse, (case.side, case.side), mode="bicubic") + NOISE * noise
        if case.data == "constant_75":
            grid[..., : 3 * case.side // 4] = GRAY
    return grid.flatten(2).mT.contiguous()
