"""Recognition: regions and class texts in one space, softmax over their similarities, open-set decision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.kernels.spectral import leading_directions
from ovsr_gpu.results import ClassTexts, LabelledRegions, Regions
from ovsr_gpu.runtime.timing import stage


@stage("recognition")
def classify_regions(
    regions: Regions,
    embeddings: Tensor,
    texts: ClassTexts,
    num_images: int,
    logit_scale: float,
    config: RecognitionConfig,
) -> LabelledRegions:
    """Classify every region: softmax over scaled cosine similarities to all texts, then argmax.

    The probability of a class is the maximum over its texts; that of "something else" is 0 if it has no text. A region
    whose most probable class is below `config.threshold` becomes "something else"; its score is then the probability of
    that prompt, or without prompts 1 - p(most probable class). With `config.first_class_is_background` it gets the
    first class and its probability instead.

    Args:
        regions: N regions.
        embeddings: `[N, E]` float32, unit rows.
        texts: The texts of the classes.
        num_images: B.
        logit_scale: The scale of the CLIP model, which `config` may override.
        config: Settings of the classification.

    Returns:
        The regions with class, score, probabilities `[N, L+1]` and embeddings.
    """
    if config.shared_rank is None:
        cosine = _stable_matmul(embeddings, texts.embeddings.mT)
    else:
        cosine = shared_space_cosine(
            regions, embeddings, texts.embeddings, num_images, config.shared_rank, config.shared_centered
        )
    text_probabilities = (config.effective_logit_scale(logit_scale) * cosine).softmax(dim=1)  # [N, T]
    probabilities = text_probabilities.new_zeros(len(regions), texts.num_classes + 1)
    probabilities.scatter_reduce_(1, texts.class_index.expand_as(text_probabilities), text_probabilities, "amax")
    if config.area_threshold is not None:
        probabilities = _without_small_classes(regions, probabilities, num_images, config.area_threshold)
    score, class_index = probabilities.max(dim=1)
    if config.threshold is not None:
        is_known = score >= config.threshold
        unknown_class = 0 if config.first_class_is_background else texts.num_classes
        has_text = config.first_class_is_background or config.something_else
        class_index = torch.where(is_known, class_index, unknown_class)
        score = torch.where(is_known, score, probabilities[:, unknown_class] if has_text else 1 - score)
    return LabelledRegions(
        regions.image_index, regions.boxes, regions.areas, class_index, score, probabilities, embeddings
    )


def _without_small_classes(regions: Regions, probabilities: Tensor, num_images: int, fraction: float) -> Tensor:
    """Zero the probabilities `[N, L+1]` of the classes that cover too little of an image.

    A class other than the first must be the most probable one for more than `fraction` of the pixels whose most
    probable class is not the first. This is the rule `area_thd` of SCLIP (clip_segmentor.py of wangf3014/SCLIP).
    """
    columns = probabilities.shape[1]
    slot = regions.image_index * columns + probabilities.argmax(dim=1)
    areas = regions.areas.new_zeros(num_images * columns).index_add_(0, slot, regions.areas).view(num_images, columns)
    areas[:, 0].zero_()
    is_large = areas > fraction * areas.sum(dim=1, keepdim=True)
    is_large[:, 0].fill_(True)
    return probabilities * is_large[regions.image_index]


def shared_space_cosine(
    regions: Regions, embeddings: Tensor, texts: Tensor, num_images: int, rank: int, centered: bool
) -> Tensor:
    """Return the cosine of regions and texts after an SVD projection per image.

    The rows [regions of the image; texts] are projected on their leading right singular vectors. Each image has its own
    space, so that its result never depends on the rest of the batch.

    Args:
        regions: N regions.
        embeddings: `[N, E]` float32, unit rows.
        texts: `[T, E]` float32, unit rows.
        num_images: B.
        rank: Number of singular vectors Q.
        centered: Whether to subtract the mean of the image's rows first.

    Returns:
        `[N, T]` float32.
    """
    texts = texts.expand(num_images, -1, -1)  # [B, T, E]
    text_image = torch.arange(num_images, device=texts.device)[:, None].expand(texts.shape[:2])
    rows = torch.cat([embeddings, texts.flatten(0, 1)])
    row_image = torch.cat([regions.image_index, text_image.flatten()])
    if centered:
        sums = torch.zeros(num_images, rows.shape[1], dtype=torch.float64, device=rows.device)
        sums.index_add_(0, row_image, rows.double())
        mean = (sums / (regions.counts(num_images) + texts.shape[1])[:, None]).to(rows.dtype)  # [B, E]
        is_filled = torch.cat([regions.areas, torch.ones_like(text_image.flatten())])[:, None] > 0
        rows = torch.where(is_filled, rows - mean[row_image], 0)  # empty slots stay zero
    directions = leading_directions(rows, row_image, num_images, rank)  # [B, Q, E]
    region_rows, text_rows = rows[: len(regions)], rows[len(regions) :].view_as(texts)
    shared_texts = normalize(_stable_matmul(text_rows, directions.mT), dim=2)  # [B, T, Q]
    shared_regions = normalize(
        _stable_matmul(directions[regions.image_index], region_rows[:, :, None])[:, :, 0], dim=1
    )  # [N, Q]
    return _stable_matmul(shared_texts[regions.image_index], shared_regions[:, :, None])[:, :, 0]


def _stable_matmul(left: Tensor, right: Tensor) -> Tensor:
    """Multiply in float64 where the device has it.

    In float32 the last bits of a region's row depend on the number of other rows.
    """
    if left.device.type == "mps":
        return left @ right
    return (left.double() @ right.double()).float()


@stage("class map")
def class_map(region_map: Tensor, offsets: Tensor, class_index: Tensor) -> Tensor:
    """Return the class of the region of every pixel.

    Args:
        region_map: `[B, H, W]` int32.
        offsets: `[B]` int64, see `Regions.offsets`.
        class_index: `[N]` int64, the class of each region; pixels of regions beyond N get the class of the last one.

    Returns:
        `[B, H, W]` int32.
    """
    region = region_map + offsets.to(torch.int32)[:, None, None]
    region = region.clamp_(max=len(class_index) - 1)
    return class_index.to(torch.int32).index_select(0, region.flatten()).view_as(region_map)
