"""The grid cell under each pixel."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_of_pixels(num_pixels: int, size: Tensor, num_cells: int) -> Tensor:
    """Return the index of the grid cell that contains the center of each pixel along one axis.

    The cells divide the image into equal parts: the cell of pixel p is floor((p + 1/2) * num_cells / size).

    Args:
        num_pixels: Pixels of the canvas along the axis.
        size: `[B]` int64, pixels of each image along the axis.
        num_cells: Cells of the grid along the axis.

    Returns:
        `[B, num_pixels]` int64; `num_cells` or more for pixels beyond the end of the image.
    """
    return (2 * torch.arange(num_pixels, device=size.device) + 1) * num_cells // (2 * size[:, None])
