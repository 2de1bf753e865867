"""Latent representation of the pixels: the leading singular directions of their features."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import LatentConfig
from ovsr_gpu.kernels.spectral import leading_svd
from ovsr_gpu.results import Latents
from ovsr_gpu.runtime.timing import stage

ZERO_VALUE = 1e-6
"""Fraction of the largest singular value below which another is rounding error of float32 features."""


@stage("latents")
def svd_latents(features: Tensor, config: LatentConfig) -> Latents:
    """Center the features of each image and take Z = U Sigma of its first R components (U where not `config.scaled`).

    features: `[B, C, h, w]` float32. R is at most M = min(h * w, C). Columns of U whose singular values are zero up to
    rounding are zero.
    """
    pixels = features.flatten(2).mT  # [B, P, C]
    centered = pixels - pixels.mean(dim=1, keepdim=True)
    components, singular_values = DRIVERS[config.driver](centered, config.rank)
    if not config.scaled:
        zero = singular_values <= ZERO_VALUE * singular_values[:, :1]
        components = components / singular_values.masked_fill(zero, torch.inf)[:, None, : components.shape[2]]
    short, long = sorted(pixels.shape[1:])
    return Latents(components.contiguous(), singular_values, short / long, (features.shape[2], features.shape[3]))


def torch_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """What `leading_svd` gives, but for the signs, by torch's decomposition; on a GPU the host waits for it."""
    u, singular_values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :, :rank] * singular_values[:, None, :rank], singular_values


DRIVERS = {"gram": leading_svd, "svd": torch_svd}
