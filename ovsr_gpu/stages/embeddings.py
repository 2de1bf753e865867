"""CLIP embeddings of the regions: each region cropped and encoded, or pooled from one pass per image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.models.network_batch import NetworkBatch
from ovsr_gpu.results import Regions
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.stages.crops import region_crops
from ovsr_gpu.stages.dense_embeddings import pooled_embeddings


def embed_regions(
    clip: ClipModel, images: ImageBatch, region_map: Tensor, regions: Regions, config: RegionConfig, batch: NetworkBatch
) -> Tensor:
    """Return unit CLIP embeddings of the regions, by the encoder of `config`.

    With several backgrounds an embedding is the normalized mean of those of the crops with each background. Crops are
    made in parts, so that only one batch of them is in memory at a time.

    Args:
        clip: The model.
        images: The batch.
        region_map: `[B, H, W]` int32.
        regions: N regions of the batch.
        config: Settings of the regions.
        batch: Number of crops or images per forward pass.

    Returns:
        `[N, E]` float32, zero for empty slots.
    """
    if config.encoder == "dense":
        embeddings = pooled_embeddings(clip, images, region_map, regions, batch)
    else:
        size = batch.max_rows
        parts = list(zip(regions.split(size), regions.spans(len(images)).split(size), strict=True))
        views = []
        for background in config.backgrounds:
            single = replace(config, background=background)
            batches = (region_crops(images, region_map, part, spans, clip, single) for part, spans in parts)
            views.append(torch.cat([encode_crops(clip, crops, batch) for crops in batches]))
        embeddings = views[0] if len(views) == 1 else normalize(torch.stack(views).sum(0), dim=1)
    return torch.where(regions.areas[:, None] > 0, embeddings, 0)


@stage("image embeddings")
def encode_crops(clip: ClipModel, crops: Tensor, batch: NetworkBatch) -> Tensor:
    """Return the embeddings of one batch of crops.

    Args:
        clip: The model.
        crops: `[N, 3, S, S]`, normalized, N at most `batch.max_rows`.
        batch: The batch size.

    Returns:
        `[N, E]` float32, unit rows.
    """
    return batch.run(clip.encode_image, crops)
