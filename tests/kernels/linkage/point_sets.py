"""Point sets for clustering: each is `[B, P, R]` float64, with P = side * side for a grid."""

import torch


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    return torch.randn(images, side * side, rank, generator=_random(seed), dtype=torch.float64)


def smooth(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    """Return points whose neighbors are similar, like pixels."""
    coarse = normal(4, rank, seed, images).mT.reshape(images, rank, 4, 4)
    grid = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (grid.flatten(2).mT + 0.05 * normal(side, rank, seed + 1, images)).contiguous()


def integer(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    return torch.randint(0, 4, (images, side * side, rank), generator=_random(seed)).double()


def binary(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    return torch.randint(0, 2, (images, side * side, rank), generator=_random(seed)).double()


def constant(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    return torch.full((images, side * side, rank), 0.3 + seed, dtype=torch.float64)


def duplicated(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    few = normal(2, rank, seed, images)
    return few[:, torch.randint(0, 4, (side * side,), generator=_random(seed))]


def collinear(side: int, rank: int, seed: int, images: int = 1) -> torch.Tensor:
    return normal(side, 1, seed, images) * torch.ones(rank, dtype=torch.float64)


TIED = [integer, binary, constant, duplicated]
ALL = [normal, smooth, collinear, *TIED]
