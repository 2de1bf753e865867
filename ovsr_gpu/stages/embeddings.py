"""Image embeddings of the regions: every region cropped and put through CLIP's image tower, or read off one pass."""

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
    """Unit CLIP embeddings of the regions, as `config.encoder` says: `[N, E]` float32, zero for empty slots.

    With several backgrounds they are the mean directions of the crops with each. region_map: `[B, H, W]` int32. As many
    crops or images are held as go through CLIP together.
    """
    if config.encoder == "dense":
        embeddings = pooled_embeddings(clip, images, region_map, regions, batch)
    else:
        parts = list(zip(regions.split(batch.most), regions.spans(len(images)).split(batch.most), strict=True))
        views = []
        for background in config.backgrounds:
            alone = replace(config, background=background)
            crops = (region_crops(images, region_map, part, spans, clip, alone) for part, spans in parts)
            views.append(torch.cat([encode_crops(clip, one, batch) for one in crops]))
        embeddings = views[0] if len(views) == 1 else normalize(torch.stack(views).sum(0), dim=1)
    return torch.where(regions.areas[:, None] > 0, embeddings, 0)


@stage("image embeddings")
def encode_crops(clip: ClipModel, crops: Tensor, batch: NetworkBatch) -> Tensor:
    """Unit embeddings `[N, E]` float32 of at most `batch.most` normalised crops `[N, 3, S, S]`."""
    return batch.run(clip.encode_image, crops)
