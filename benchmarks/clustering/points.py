"""Made features of pixels, the same on every machine."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from clustering.cases import Case

COARSE_SIDE = 8
NOISE = 0.05
GREY = 0.3


def made_points(case: Case) -> Tensor:
    """The points `[B, P, R]` float32 of a case, on the CPU.

    "smooth" resembles the features of a photograph: a coarse random grid enlarged bicubically, plus a little noise.
    "noise" has no structure at all. "constant" is one color, where everything ties: the worst case of a pixel graph,
    since every merge borders on the next. "constant_75" is smooth with its left three quarters in that one color.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, case.rank, case.side, case.side)
    noise = torch.randn(shape, generator=generator)
    if case.data == "noise":
        grid = noise
    elif case.data == "constant":
        grid = torch.full(shape, GREY)
    else:
        coarse = torch.randn(case.batch, case.rank, COARSE_SIDE, COARSE_SIDE, generator=generator)
        grid = interpolate(coarse, (case.side, case.side), mode="bicubic") + NOISE * noise
        if case.data == "constant_75":
            grid[..., : 3 * case.side // 4] = GREY
    return grid.flatten(2).mT.contiguous()
