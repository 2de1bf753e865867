"""The whole method, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from ovsr_gpu.config import Config
from ovsr_gpu.models.clip import ClipModel
from reference.arrays import Array
from reference.clustering import cluster_count, cut, merge_tree
from reference.crops import region_crops
from reference.features import pixel_features, svd_latents
from reference.recognition import classify_regions, embed_images, embed_texts
from reference.regions import ImageRegions, extract_regions


class ReferenceResult(NamedTuple):
    """The result for one image: maps `[H, W]`, probabilities `[n, L+1]`, embeddings `[n, E]`."""

    regions: ImageRegions
    cluster_count: int
    class_map: Array
    class_index: Array
    probabilities: Array
    embeddings: Array


class ReferencePipeline:
    """The reference pipeline for loaded networks; see `ovsr_gpu.Segmenter` for the same with the package."""

    def __init__(self, backbone: nn.Sequential, clip: ClipModel, config: Config, device: torch.device) -> None:
        self.backbone = backbone
        self.clip = clip
        self.config = config
        self.device = device

    def embed_texts(self, classes: Sequence[Sequence[str]]) -> Array:
        """Return unit embeddings `[L+1, E]` of the classes, computed once for all images."""
        return embed_texts(self.clip, classes, self.config.recognition)

    @torch.no_grad()
    def __call__(self, image: Array, texts: Array) -> ReferenceResult:
        """Run both stages on one image `[H, W, 3]` uint8."""
        count, regions = self.segment(image)
        embeddings = embed_images(self.clip, region_crops(image, regions, self.clip, self.config.regions))
        class_index, probabilities = classify_regions(embeddings, texts, self.clip.logit_scale, self.config.recognition)
        class_map = class_index[regions.region_map]
        return ReferenceResult(regions, count, class_map, class_index, probabilities, embeddings)

    @torch.no_grad()
    def segment(self, image: Array) -> tuple[int, ImageRegions]:
        """Run stage 1 on one image; return the number of clusters and the regions."""
        config = self.config
        features = pixel_features(self.backbone, image, config.features, self.device)
        height, width, channels = features.shape
        components, singular_values = svd_latents(features, config.latents)
        children, heights = merge_tree(components, (height, width), config.clustering)
        count = cluster_count(singular_values, heights, (height * width, channels), config.clustering)
        labels = cut(children, count).reshape(height, width)
        return count, extract_regions(labels, image, config.regions)
