"""Recognition: regions and class prompts in one space, softmax over their similarities, open-set decision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.kernels.spectral import leading_directions
from ovsr_gpu.results import ClassTexts, LabelledRegions, Regions
from ovsr_gpu.runtime.timing import stage


@stage("recognition")
def name_regions(
    regions: Regions, embeddings: Tensor, texts: ClassTexts, images: int, logit_scale: float, config: RecognitionConfig
) -> LabelledRegions:
    """Class of every region: softmax over cosine similarity x `logit_scale` to all texts, then argmax.

    embeddings: `[N, E]`, unit rows. `logit_scale` is CLIP's own, for which `config` may have another. A class has the
    largest of the probabilities of its texts, "something else" zero where it has none. A region whose most probable
    class stays below `config.threshold` is "something else" too; its score is then that prompt's probability, or
    without one what the class lacks of 1. With `config.background` it is of the first class, and its score that one's
    probability.
    """
    if config.shared_rank is None:
        cosine = _product(embeddings, texts.embeddings.mT)
    else:
        cosine = shared_space_cosine(
            regions, embeddings, texts.embeddings, images, config.shared_rank, config.shared_centered
        )
    by_text = (config.scale(logit_scale) * cosine).softmax(dim=1)  # [N, T]
    probabilities = by_text.new_zeros(len(regions), texts.classes + 1)
    probabilities.scatter_reduce_(1, texts.class_index.expand_as(by_text), by_text, "amax")
    if config.area_threshold is not None:
        probabilities = _without_small_classes(regions, probabilities, images, config.area_threshold)
    score, class_index = probabilities.max(dim=1)
    if config.threshold is not None:
        known = score >= config.threshold
        rest = 0 if config.background else texts.classes
        has_text = config.background or config.something_else
        class_index = torch.where(known, class_index, rest)
        score = torch.where(known, score, probabilities[:, rest] if has_text else 1 - score)
    return LabelledRegions(
        regions.image_index, regions.boxes, regions.areas, class_index, score, probabilities, embeddings
    )


def _without_small_classes(regions: Regions, probabilities: Tensor, images: int, fraction: float) -> Tensor:
    """The probabilities `[N, L+1]` with zeros for the classes that cover too little of an image.

    Of the pixels whose most probable class is not the first, each other class must have more than `share`: the rule of
    `area_thd` in SCLIP (clip_segmentor.py of wangf3014/SCLIP).
    """
    columns = probabilities.shape[1]
    place = regions.image_index * columns + probabilities.argmax(dim=1)
    areas = regions.areas.new_zeros(images * columns).index_add_(0, place, regions.areas).view(images, columns)
    areas[:, 0].zero_()
    kept = areas > fraction * areas.sum(dim=1, keepdim=True)
    kept[:, 0].fill_(True)
    return probabilities * kept[regions.image_index]


def shared_space_cosine(
    regions: Regions, embeddings: Tensor, texts: Tensor, images: int, rank: int, centered: bool
) -> Tensor:
    """Cosine `[N, T]` of regions and texts `[T, E]` after the SVD projection of each image.

    The rows [regions of the image; texts] are projected on their `rank` leading right singular vectors, with
    the image's own mean taken off first if `centered`. Each image has its own space, so that a
    result never depends on the rest of the batch.
    """
    texts = texts.expand(images, -1, -1)  # [B, T, E]
    image = torch.arange(images, device=texts.device)[:, None].expand(texts.shape[:2])
    rows = torch.cat([embeddings, texts.flatten(0, 1)])
    owner = torch.cat([regions.image_index, image.flatten()])
    if centered:
        sums = torch.zeros(images, rows.shape[1], dtype=torch.float64, device=rows.device)
        sums.index_add_(0, owner, rows.double())
        mean = (sums / (regions.counts(images) + texts.shape[1])[:, None]).to(rows.dtype)  # [B, E]
        there = torch.cat([regions.areas, torch.ones_like(image.flatten())])[:, None] > 0  # empty slots stay zero
        rows = torch.where(there, rows - mean[owner], 0)
    directions = leading_directions(rows, owner, images, rank)  # [B, Q, E]
    own_rows, text_rows = rows[: len(regions)], rows[len(regions) :].view_as(texts)
    shared_texts = normalize(_product(text_rows, directions.mT), dim=2)  # [B, T, Q]
    shared_regions = normalize(
        _product(directions[regions.image_index], own_rows[:, :, None])[:, :, 0], dim=1
    )  # [N, Q]
    return _product(shared_texts[regions.image_index], shared_regions[:, :, None])[:, :, 0]


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Matrix product by way of float64, where there is one.

    In float32 the last bits of a region's row depend on how many other rows there are.
    """
    if one.device.type == "mps":
        return one @ other
    return (one.double() @ other.double()).float()


@stage("class map")
def class_map(region_map: Tensor, firsts: Tensor, class_index: Tensor) -> Tensor:
    """Class of every pixel, that of its region: `[B, H, W]` int32.

    region_map: `[B, H, W]` int32. firsts: `[B]` int64, see `Regions.firsts`. class_index: `[N]` int64; pixels of
    further regions get the last of these.
    """
    region = region_map + firsts.to(torch.int32)[:, None, None]
    region = region.clamp_(max=len(class_index) - 1)
    return class_index.to(torch.int32).index_select(0, region.flatten()).view_as(region_map)
