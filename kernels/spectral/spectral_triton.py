"""Spectra by Jacobi rotations as Triton kernels, one program a matrix, no host in between.

A matrix with mutually orthogonal rows shows its singular values, their lengths, and its right singular vectors, their
directions. Hestenes (1958, "Inversion of matrices by biorthogonalization and related results") makes rows orthogonal
by rotating two at a time. A Gram matrix is first factorised as R^T R by Cholesky's method, largest pivot first: from
there few sweeps are left to do (Drmac and Veselic, 2008, "New fast and accurate Jacobi SVD algorithm").

Threads of a program see each other's stores after a barrier only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

FLOOR = 1e-15
"""Share of the sum of all squares below which the squared length of a row is rounding error."""
TOLERANCE = tl.constexpr(1e-10)
"""Cosine of the angle between two rows that counts as a right angle."""
SWEEPS = tl.constexpr(60)
"""More than any matrix needs: 6 to 14 do."""


@triton.jit
def factorise(gram, factor, ranks, floors, n, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Rows R of gram = R^T R, `[B, n, n]`, until no diagonal entry of what is left exceeds the floor. ranks: `[B]`."""
    matrix = tl.program_id(0)
    gram += matrix.to(tl.int64) * n * n
    factor += matrix.to(tl.int64) * n * n
    floor = tl.load(floors + matrix)
    lane = tl.arange(0, WIDTH)
    inside = lane < n
    left = tl.load(gram + lane * n + lane, mask=inside, other=0)
    rank = 0
    largest = tl.max(left)
    while (rank < n) & (largest > floor):
        pivot = tl.argmax(left, axis=0)
        explained = tl.zeros([ROWS, WIDTH], dtype=tl.float64)
        for first in range(0, rank, ROWS):
            row = first + tl.arange(0, ROWS)
            known = row < rank
            at_pivot = tl.load(factor + row * n + pivot, mask=known, other=0)
            cells = factor + row[:, None] * n + lane[None, :]
            explained += at_pivot[:, None] * tl.load(cells, mask=known[:, None] & inside[None, :], other=0)
        found = tl.load(gram + pivot * n + lane, mask=inside, other=0) - tl.sum(explained, axis=0)
        found = found / tl.sqrt(largest)
        tl.store(factor + rank * n + lane, found, mask=inside)
        left = tl.where(lane == pivot, 0, left - found * found)
        largest = tl.max(left)
        rank += 1
        tl.debug_barrier()
    tl.store(ranks + matrix, rank.to(tl.int64))


@triton.jit
def orthogonalise(rows, starts, counts, floors, width, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """Rotate the rows of each matrix in place until they are mutually orthogonal.

    rows: `[T, width]`; a matrix has counts[b] of them from starts[b] on. The pairs of a step have no row in common, and
    the steps of a sweep bring every two rows together, as in a round-robin tournament: the last player keeps its seat,
    the others move round. Rows whose squared length is not above the floor are left alone.
    """
    matrix = tl.program_id(0)
    rows += tl.load(starts + matrix) * width
    count = tl.load(counts + matrix).to(tl.int32)
    floor = tl.load(floors + matrix)
    pairs = (count + 1) // 2
    last = 2 * pairs - 1
    lane = tl.arange(0, WIDTH)
    sweep = 0
    turning = 1
    while (turning > 0) & (sweep < SWEEPS):
        turns = tl.zeros([PAIRS], dtype=tl.int32)
        for step in range(0, last):
            for first in range(0, pairs, PAIRS):
                pair = first + tl.arange(0, PAIRS)
                one = tl.where(pair == 0, last, (step + pair) % last)
                other = (step - pair + last) % last
                meet = (pair < pairs) & (one < count) & (other < count)
                cells = meet[:, None] & (lane < width)[None, :]
                at_one = rows + one[:, None] * width + lane[None, :]
                at_other = rows + other[:, None] * width + lane[None, :]
                a = tl.load(at_one, mask=cells, other=0)
                b = tl.load(at_other, mask=cells, other=0)
                aa = tl.sum(a * a, axis=1)
                bb = tl.sum(b * b, axis=1)
                ab = tl.sum(a * b, axis=1)
                turn = (tl.minimum(aa, bb) > floor) & (tl.abs(ab) > tl.sqrt(aa) * tl.sqrt(bb) * TOLERANCE)
                cotangent = (bb - aa) / (2 * tl.where(turn, ab, 1))  # of twice the angle
                tangent = 1 / (tl.abs(cotangent) + tl.sqrt(1 + cotangent * cotangent))
                tangent = tl.where(cotangent < 0, -tangent, tangent)
                cosine = 1 / tl.sqrt(1 + tangent * tangent)
                sine = cosine * tangent
                cells = cells & turn[:, None]
                tl.store(at_one, cosine[:, None] * a - sine[:, None] * b, mask=cells)
                tl.store(at_other, sine[:, None] * a + cosine[:, None] * b, mask=cells)
                turns += turn.to(tl.int32)
            tl.debug_barrier()
        turning = tl.sum(turns)
        sweep += 1


TILE = 2048
"""Numbers that a program holds of each of the two rows of its pairs."""
TUNING = {"num_warps": 16}


def gram_spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values `[B, M]`, descending, and their vectors `[B, M, M]`, the columns, from `[B, M, M]` float64.

    The vectors of singular values that are lost to rounding are zero.
    """
    matrices, n = gram.shape[:2]
    floors = FLOOR * gram.diagonal(dim1=1, dim2=2).sum(1)
    factor = torch.zeros_like(gram, memory_format=torch.contiguous_format)
    ranks = torch.empty(matrices, dtype=torch.int64, device=gram.device)
    rows, width = _tile(n)
    factorise[(matrices,)](gram.contiguous(), factor, ranks, floors, n, ROWS=rows, WIDTH=width, **TUNING)
    starts = n * torch.arange(matrices, device=gram.device)
    orthogonalise[(matrices,)](factor, starts, ranks, floors, n, PAIRS=rows, WIDTH=width, **TUNING)
    singular_values, order = torch.linalg.vector_norm(factor, dim=2).sort(dim=1, descending=True, stable=True)
    vectors = factor.gather(1, order[:, :, None].expand_as(factor))
    return singular_values, (vectors / _divisors(singular_values)[:, :, None]).mT


def group_directions(rows: Tensor, counts: Tensor, rank: int) -> Tensor:
    """Leading right singular vectors of each group, `[groups, rank, E]` float64.

    rows: `[T, E]`, group by group. counts: `[groups]` int64, the rows of each.
    """
    ends = counts.cumsum(0)
    starts = ends - counts
    group = torch.searchsorted(ends, torch.arange(len(rows), device=rows.device), right=True)
    rows = rows.to(torch.float64, copy=True)
    floors = FLOOR * rows.new_zeros(len(counts)).index_add_(0, group, rows.square().sum(1))
    pairs, width = _tile(rows.shape[1])
    orthogonalise[(len(counts),)](rows, starts, counts, floors, rows.shape[1], PAIRS=pairs, WIDTH=width, **TUNING)

    lengths = torch.linalg.vector_norm(rows, dim=1)
    order = lengths.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]  # [T]: group by group again, longest first
    number = torch.arange(rank, device=rows.device)
    place = order[(starts[:, None] + number).clamp_max(len(rows) - 1)]  # [groups, rank]
    divisors = torch.where(number < counts[:, None], _divisors(lengths)[place], torch.inf)
    return rows[place] / divisors[:, :, None]


def _tile(width: int) -> tuple[int, int]:
    """Rows and columns, powers of two."""
    columns = triton.next_power_of_2(width)
    return max(1, TILE // columns), columns


def _divisors(lengths: Tensor) -> Tensor:
    """Infinite where there is nothing to divide."""
    return torch.where(lengths > 0, lengths, torch.inf)
