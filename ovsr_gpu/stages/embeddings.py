"""Image embeddings of the regions: every region cropped and put through CLIP's image tower."""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.config import Config
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.stages.crops import region_crops
from ovsr_gpu.structures import Regions
from ovsr_gpu.timing import stage


@stage("image embeddings")
def embed_regions(clip: ClipModel, images: ImageBatch, region_map: Tensor, regions: Regions, config: Config) -> Tensor:
    """Unit CLIP embeddings of the regions' crops: `[N, E]` float32.

    region_map: `[B, H, W]` int32. `config.recognition.crop_batch` crops are held and encoded at a time.
    """
    held = config.recognition.crop_batch
    parts = zip(regions.split(held), regions.numbers(len(images)).split(held), strict=True)
    embeddings = [
        clip.encode_image(region_crops(images, region_map, part, number, clip, config.regions))
        for part, number in parts
    ]
    return torch.cat(embeddings)
