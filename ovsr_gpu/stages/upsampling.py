"""Upsampling of label grids, so that the boundaries of regions follow the image rather than the grid cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

WINDOW_RADIUS = 2
"""Radius in cells of the window of cells that vote on a fine cell."""
SIGMA_SPACE, SIGMA_COLOR = 1.5, 0.1
"""Standard deviations of the bilateral weights: in cells, and in color with channels from 0 to 1."""


def upsample_bilinear(labels: Tensor, scale: int) -> Tensor:
    """Give each fine cell the label with the largest bilinear weight among its nearest four cells.

    Ties are broken in favor of the upper, then the left cell.

    Args:
        labels: `[B, h, w]` int64.
        scale: Upsampling factor.

    Returns:
        `[B, scale * h, scale * w]` int64.
    """
    top, bottom, y_weight = _interpolation(labels.shape[1], scale, labels.device)
    left, right, x_weight = _interpolation(labels.shape[2], scale, labels.device)
    corners = [labels[:, row[:, None], column] for row in (top, bottom) for column in (left, right)]
    weights = [y[:, None] * x for y in (1 - y_weight, y_weight) for x in (1 - x_weight, x_weight)]
    votes = [
        torch.stack(
            [torch.where(corner == label, weight, 0) for corner, weight in zip(corners, weights, strict=True)]
        ).sum(0)
        for label in corners
    ]
    winner = torch.stack(votes).argmax(0, keepdim=True)
    return torch.stack(corners).gather(0, winner)[0]


def _interpolation(num_cells: int, scale: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells around each fine cell's center and the weight of the second, `[scale * num_cells]` each."""
    center = (torch.arange(scale * num_cells, device=device) + 0.5) / scale - 0.5
    center = center.clamp(0, num_cells - 1)
    low = center.floor().long()
    return low, (low + 1).clamp_max(num_cells - 1), center - low


def upsample_joint_bilateral(labels: Tensor, colors: Tensor) -> Tensor:
    """Give each fine cell the label with the largest weight among the cells around it, by distance and color.

    The weights are the product of a Gaussian of the distance and a Gaussian of the color difference (Kopf et al., 2007,
    "Joint bilateral upsampling", eq. 3), summed over a window of radius WINDOW_RADIUS. Candidates are the labels of the
    3 x 3 cells around the fine cell; ties are broken in favor of the upper, then the left one.

    Args:
        labels: `[B, h, w]` int64.
        colors: `[B, 3, scale * h, scale * w]` float32 in [0, 1], the colors of the fine cells. The color of a cell is
            the mean of its fine cells.

    Returns:
        `[B, scale * h, scale * w]` int64.
    """
    scale = colors.shape[2] // labels.shape[1]
    row, y_distance = _window(labels.shape[1], scale, labels.device)
    column, x_distance = _window(labels.shape[2], scale, labels.device)
    row, column = row[:, None, :, None], column[None, :, None, :]
    window = labels[:, row, column]  # [B, V, V, scale * h, scale * w]
    color_distance = torch.zeros_like(window, dtype=colors.dtype)
    for fine, coarse in zip(colors.unbind(1), avg_pool2d(colors, scale).unbind(1), strict=True):
        color_distance += (fine[:, None, None] - coarse[:, row, column]).square()
    space_weight = torch.exp(-(y_distance[:, None, :, None] + x_distance[None, :, None, :]) / (2 * SIGMA_SPACE**2))
    weight = space_weight * torch.exp(-color_distance / (2 * SIGMA_COLOR**2))
    center = range(WINDOW_RADIUS - 1, WINDOW_RADIUS + 2)
    candidates = [window[:, y, x] for y in center for x in center]
    votes = [torch.where(window == label[:, None, None], weight, 0).sum((1, 2)) for label in candidates]
    winner = torch.stack(votes).argmax(0, keepdim=True)
    return torch.stack(candidates).gather(0, winner)[0]


def majority_filter(labels: Tensor) -> Tensor:
    """Give each cell the most frequent label of the 3 x 3 cells around it; this removes specks and thin lines.

    Ties are broken in favor of the cell's own label, then the upper, then the left one. Cells at the edge are repeated
    beyond it.

    Args:
        labels: `[B, h, w]` int64.

    Returns:
        `[B, h, w]` int64.
    """
    height, width = labels.shape[1:]
    rows, columns = (
        [(torch.arange(size, device=labels.device) + step).clamp(0, size - 1) for step in (-1, 0, 1)]
        for size in (height, width)
    )
    window = torch.stack([labels[:, row[:, None], column] for row in rows for column in columns])  # [9, B, h, w]
    votes = 2 * (window[:, None] == window).sum(1) + (window == labels)
    return window.gather(0, votes.argmax(0, keepdim=True))[0]


def _window(num_cells: int, scale: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cells around each fine cell and their squared distances, `[2 * WINDOW_RADIUS + 1, scale * num_cells]`.

    Beyond the edge the distance is infinite and the cell is the one at the edge.
    """
    fine = torch.arange(scale * num_cells, device=device)
    cell = fine // scale + torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1, device=device)[:, None]
    distance = (cell - ((fine + 0.5) / scale - 0.5)).square()
    clamped = cell.clamp(0, num_cells - 1)
    return clamped, torch.where(cell == clamped, distance, torch.inf)
