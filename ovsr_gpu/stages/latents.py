"""Latent representation of the grid cells: the leading singular directions of their features."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import LatentConfig
from ovsr_gpu.kernels.spectral import leading_svd
from ovsr_gpu.results import Latents
from ovsr_gpu.runtime.timing import stage

ZERO_VALUE = 1e-6
"""Singular values below this fraction of the largest are rounding errors of float32 features."""


@stage("latents")
def svd_latents(features: Tensor, config: LatentConfig) -> Latents:
    """Center the features of each image and return Z = U Sigma of its first R components (U if not `config.scaled`).

    R is at most M = min(h * w, C). Columns of U are zero where the singular value is zero up to rounding.

    Args:
        features: `[B, C, h, w]` float32.
        config: Rank, scaling and driver.

    Returns:
        The latents and the singular values.
    """
    pixels = features.flatten(2).mT  # [B, P, C]
    centered = pixels - pixels.mean(dim=1, keepdim=True)
    components, singular_values = DRIVERS[config.driver](centered, config.rank)
    if not config.scaled:
        is_zero = singular_values <= ZERO_VALUE * singular_values[:, :1]
        components = components / singular_values.masked_fill(is_zero, torch.inf)[:, None, : components.shape[2]]
    short, long = sorted(pixels.shape[1:])
    return Latents(components.contiguous(), singular_values, short / long, (features.shape[2], features.shape[3]))


def torch_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the same as `leading_svd` up to signs, by `torch.linalg.svd`; on a GPU the host waits for it."""
    u, singular_values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :, :rank] * singular_values[:, None, :rank], singular_values


DRIVERS = {"gram": leading_svd, "svd": torch_svd}
