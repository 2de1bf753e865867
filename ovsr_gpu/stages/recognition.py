"""Recognition: regions and class prompts in one space, softmax over their similarities, open-set decision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.structures import LabelledRegions, Regions
from ovsr_gpu.timing import stage


@stage("recognition")
def name_regions(
    regions: Regions, embeddings: Tensor, texts: Tensor, images: int, logit_scale: float, config: RecognitionConfig
) -> LabelledRegions:
    """Class of every region: softmax over cosine similarity x `logit_scale`, then argmax.

    embeddings: `[N, E]` and texts: `[L+1, E]`, unit rows; the last text is "something else". A region whose most
    probable class stays below `config.threshold` is "something else" too; its score is then that prompt's
    probability.
    """
    if config.shared_rank is None:
        cosine = embeddings @ texts.mT
    else:
        cosine = shared_space_cosine(regions, embeddings, texts, images, config)
    probabilities = (logit_scale * cosine).softmax(dim=1)
    score, class_index = probabilities.max(dim=1)
    if config.threshold is not None:
        known = score >= config.threshold
        class_index = torch.where(known, class_index, texts.shape[0] - 1)
        score = torch.where(known, score, probabilities[:, -1])
    return LabelledRegions(
        regions.image_index, regions.boxes, regions.areas, class_index, score, probabilities, embeddings
    )


def shared_space_cosine(
    regions: Regions, embeddings: Tensor, texts: Tensor, images: int, config: RecognitionConfig
) -> Tensor:
    """Cosine `[N, L+1]` of regions and texts after the SVD projection of each image.

    The rows [regions of the image; texts] are projected on their `config.shared_rank` leading right singular vectors,
    with the image's own mean taken off first if `config.shared_centred`. Each image has its own space, so that a
    result never depends on the rest of the batch.
    """
    slot = regions.numbers(images)
    padded = embeddings.new_zeros(images, int(slot.max()) + 1, embeddings.shape[1])
    padded[regions.image_index, slot] = embeddings
    rows = torch.cat([padded, texts.expand(images, -1, -1)], dim=1)  # [B, Kmax + L + 1, E]
    filled = rows.any(dim=2, keepdim=True)
    if config.shared_centred:
        mean = rows.sum(dim=1, keepdim=True) / filled.sum(dim=1, keepdim=True)
        rows = torch.where(filled, rows - mean, 0)
    directions = torch.linalg.svd(rows, full_matrices=False).Vh[:, : config.shared_rank]  # [B, Q, E]
    projected = normalize(rows @ directions.mT, dim=2)
    shared_texts = projected[:, padded.shape[1] :]  # [B, L + 1, Q]
    shared_regions = projected[regions.image_index, slot]  # [N, Q]
    return (shared_texts[regions.image_index] @ shared_regions[:, :, None])[:, :, 0]


@stage("class map")
def class_map(region_map: Tensor, regions: LabelledRegions, images: int) -> Tensor:
    """Class of every pixel, that of its region: `[B, H, W]` int32."""
    before = regions.firsts(images).to(torch.int32)[:, None, None]
    return regions.class_index.to(torch.int32).index_select(0, (region_map + before).flatten()).view_as(region_map)
