"""Label grids made finer, so that the outlines of regions follow the image rather than the cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

REACH = 2
"""Cells around a fine cell's own that vote on it, in each direction."""
SIGMA_PLACE, SIGMA_COLOR = 1.5, 0.1
"""Standard deviations of the votes' weights: in cells, and in color, where each channel goes from 0 to 1."""


def bilinear(labels: Tensor, times: int) -> Tensor:
    """Each fine cell takes the label that weighs most among its nearest four cells.

    The weights are those of bilinear interpolation; of equal weights the upper, then the left one wins.
    labels: `[B, h, w]` int64. Returns `[B, times * h, times * w]` int64.
    """
    top, bottom, down = _between(labels.shape[1], times, labels.device)
    left, right, along = _between(labels.shape[2], times, labels.device)
    corner = [labels[:, row[:, None], column] for row in (top, bottom) for column in (left, right)]
    weight = [y[:, None] * x for y in (1 - down, down) for x in (1 - along, along)]
    votes = [
        torch.stack(
            [torch.where(other == label, fraction, 0) for other, fraction in zip(corner, weight, strict=True)]
        ).sum(0)
        for label in corner
    ]
    winner = torch.stack(votes).argmax(0, keepdim=True)
    return torch.stack(corner).gather(0, winner)[0]


def _between(cells: int, times: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells around each fine cell's center and the weight of the second, `[times * cells]` each."""
    center = (torch.arange(times * cells, device=device) + 0.5) / times - 0.5
    center = center.clamp(0, cells - 1)
    low = center.floor().long()
    return low, (low + 1).clamp_max(cells - 1), center - low


def joint_bilateral(labels: Tensor, colors: Tensor) -> Tensor:
    """Each fine cell takes the label that the cells around it vote for, those nearest in place and color the most.

    A label stands for election where one of the 3 x 3 cells around has it; of equal votes the upper, then the left one
    wins. The weights are Gaussians of both distances (Kopf et al., 2007, "Joint bilateral upsampling", eq. 3).

    labels: `[B, h, w]` int64. colors: `[B, 3, t * h, t * w]` float32 in [0, 1], of the fine cells; a cell's color is
    the mean of its fine ones. Returns `[B, t * h, t * w]` int64.
    """
    times = colors.shape[2] // labels.shape[1]
    row, down = _around(labels.shape[1], times, labels.device)
    column, along = _around(labels.shape[2], times, labels.device)
    row, column = row[:, None, :, None], column[None, :, None, :]
    near = labels[:, row, column]  # [B, V, V, t * h, t * w]
    distance = torch.zeros_like(near, dtype=colors.dtype)
    for fine, cells in zip(colors.unbind(1), avg_pool2d(colors, times).unbind(1), strict=True):
        distance += (fine[:, None, None] - cells[:, row, column]).square()
    place = torch.exp(-(down[:, None, :, None] + along[None, :, None, :]) / (2 * SIGMA_PLACE**2))
    weight = place * torch.exp(-distance / (2 * SIGMA_COLOR**2))
    inner = range(REACH - 1, REACH + 2)
    candidates = [near[:, y, x] for y in inner for x in inner]
    votes = [torch.where(near == label[:, None, None], weight, 0).sum((1, 2)) for label in candidates]
    winner = torch.stack(votes).argmax(0, keepdim=True)
    return torch.stack(candidates).gather(0, winner)[0]


def majority(labels: Tensor) -> Tensor:
    """Each cell takes the label that most of the 3 x 3 cells around it have: specks and hairs go.

    Of equals its own wins, then the upper, then the left one; beyond the edge the cells at the edge are repeated.
    labels: `[B, h, w]` int64. Returns the same shape.
    """
    height, width = labels.shape[1:]
    rows, columns = (
        [(torch.arange(cells, device=labels.device) + step).clamp(0, cells - 1) for step in (-1, 0, 1)]
        for cells in (height, width)
    )
    near = torch.stack([labels[:, row[:, None], column] for row in rows for column in columns])  # [9, B, h, w]
    votes = 2 * (near[:, None] == near).sum(1) + (near == labels)
    return near.gather(0, votes.argmax(0, keepdim=True))[0]


def _around(cells: int, times: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cells around each fine cell and their squared distances from its center: `[2 * REACH + 1, times * cells]`.

    Where there is no cell the distance is infinite, and the cell one at the edge.
    """
    fine = torch.arange(times * cells, device=device)
    cell = fine // times + torch.arange(-REACH, REACH + 1, device=device)[:, None]
    distance = (cell - ((fine + 0.5) / times - 0.5)).square()
    inside = cell.clamp(0, cells - 1)
    return inside, torch.where(cell == inside, distance, torch.inf)
