"""Spectra through LAPACK, matrix by matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def gram_spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values `[B, M]`, descending, and their vectors `[B, M, M]`, the columns, from `[B, M, M]` float64."""
    eigenvalues, vectors = torch.linalg.eigh(gram)
    return eigenvalues.flip(1).clamp_min(0).sqrt(), vectors.flip(2)


def group_directions(rows: Tensor, counts: Tensor, rank: int) -> Tensor:
    """Leading right singular vectors of each group, `[groups, rank, E]`.

    rows: `[T, E]`, group by group. counts: `[groups]` int64, the rows of each.
    """
    directions = rows.new_zeros(len(counts), rank, rows.shape[1])
    for leading, own in zip(directions, rows.split(counts.tolist()), strict=True):
        found = torch.linalg.svd(own, full_matrices=False).Vh[:rank]
        leading[: len(found)] = found
    return directions
