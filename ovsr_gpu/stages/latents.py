"""Latent representation of the pixels: the leading singular directions of their features."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import LatentConfig
from ovsr_gpu.structures import Latents
from ovsr_gpu.timing import stage


@stage("latents")
def svd_latents(features: Tensor, config: LatentConfig) -> Latents:
    """Centre the features of each image and take Z = U Sigma of its first R components (U where not `config.scaled`).

    features: `[B, C, h, w]` float32. R is at most M = min(h * w, C).
    """
    pixels = features.flatten(2).mT  # [B, P, C]
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    u, singular_values, _ = torch.linalg.svd(centred, full_matrices=False)
    rank = min(config.rank, singular_values.shape[1])
    components = u[:, :, :rank]
    if config.scaled:
        components = components * singular_values[:, None, :rank]
    short, long = sorted(pixels.shape[1:])
    return Latents(components.contiguous(), singular_values, short / long, (features.shape[2], features.shape[3]))
