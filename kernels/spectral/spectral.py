"""Leading singular directions of many matrices at once: the public functions.

The singular directions of a matrix X on its short side are the eigenvectors of a Gram matrix, X^T X or X X^T, and the
singular values are the roots of its eigenvalues. In float64 those below 1e-7 of the largest are lost to rounding, which
is also what float32 features hold; in float32 it would be those below 3.5e-4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ovsr_gpu.kernels.backend import choose_backend
from ovsr_gpu.kernels.linkage.arguments import check_floating
from ovsr_gpu.kernels.spectral import spectral_torch


def leading_svd(matrix: Tensor, rank: int, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Components U Sigma of the `rank` largest singular values, and all singular values, of each matrix.

    matrix: `[B, P, C]` float32 or float64, finite, P, C >= 1. rank: at least 1; R is at most M = min(P, C).
    backend: "torch", "triton", or "auto" for the one that suits the device.
    Returns `[B, P, R]` and `[B, M]`, descending, of the matrix's dtype. The sign of a component is the one that makes
    the entry of the largest magnitude positive in its singular vector on the short side.

    Raises ValueError for another rank, shape or dtype, RuntimeError for a backend that cannot run here.
    """
    check_floating("matrix", matrix, "[B, P, C], P and C at least 1", matrix.ndim == 3 and 0 not in matrix.shape[1:])
    _check_rank(rank)
    if choose_backend(backend, matrix) == "triton":
        from ovsr_gpu.kernels.spectral import spectral_triton

        components, singular_values = _leading(matrix.double(), rank, spectral_triton.gram_spectrum)
    else:
        # On a CPU the rounding of a product depends on where in memory its factors lie, so each has memory of its own.
        alone = (one.to(torch.float64, copy=True) for one in matrix.split(1))
        parts = [_leading(one, rank, spectral_torch.gram_spectrum) for one in alone]
        components, singular_values = (torch.cat(part) for part in zip(*parts, strict=True))
    return components.to(matrix.dtype), singular_values.to(matrix.dtype)


def leading_directions(rows: Tensor, group: Tensor, groups: int, rank: int, *, backend: str = "auto") -> Tensor:
    """Right singular vectors of the `rank` largest singular values of each group of rows, groups of any sizes.

    rows: `[T, E]` float32 or float64, finite. group: `[T]` int64 in [0, `groups`), the matrix that a row belongs to.
    Returns `[groups, Q, E]` of the rows' dtype, Q = min(rank, E), by descending singular value and of any sign; where
    a group has fewer rows than Q, the last ones are zero.

    The backend and the errors are as in `leading_svd`.
    """
    check_floating("rows", rows, "[T, E], T and E at least 1", rows.ndim == 2 and 0 not in rows.shape)
    _check_rank(rank)
    if group.shape != rows.shape[:1] or group.dtype != torch.int64:
        raise ValueError(f"group must be int64 of shape {list(rows.shape[:1])}; got {list(group.shape)} {group.dtype}")
    if choose_backend(backend, rows) == "triton":
        from ovsr_gpu.kernels.spectral import spectral_triton

        group_directions = spectral_triton.group_directions
    else:
        group_directions = spectral_torch.group_directions
    together = rows[group.argsort(stable=True)]
    counts = torch.zeros(groups, dtype=torch.int64, device=rows.device)
    counts.scatter_add_(0, group, torch.ones_like(group))
    return group_directions(together, counts, min(rank, rows.shape[1])).to(rows.dtype)


def _leading(
    matrix: Tensor, rank: int, gram_spectrum: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    tall = matrix.shape[1] >= matrix.shape[2]
    singular_values, vectors = gram_spectrum(matrix.mT @ matrix if tall else matrix @ matrix.mT)
    leading = vectors[:, :, :rank]  # [B, M, R]
    largest = leading.gather(1, leading.abs().argmax(1, keepdim=True))
    leading = torch.where(largest < 0, -leading, leading)
    if tall:  # the transposed product is three times as fast on a CPU
        return (leading.mT @ matrix.mT).mT, singular_values
    return leading * singular_values[:, None, :rank], singular_values


def _check_rank(rank: int) -> None:
    if rank < 1:
        raise ValueError(f"rank must be at least 1; got {rank}")
