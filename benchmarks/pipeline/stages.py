"""The stages of the method as calls on the results of the previous stages: the package's and the reference's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import reference.clustering
import reference.crops
import reference.features
import reference.recognition
import reference.regions
from ovsr_gpu import Segmenter
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.network_batch import NetworkBatch
from ovsr_gpu.results import LabelledRegions, PendingRegions
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.stages.clustering import cluster_count, cluster_labels, merge_tree
from ovsr_gpu.stages.crops import region_crops
from ovsr_gpu.stages.dense_embeddings import pooled_embeddings
from ovsr_gpu.stages.features import pixel_features
from ovsr_gpu.stages.latents import svd_latents
from ovsr_gpu.stages.recognition import class_map, classify_regions
from ovsr_gpu.stages.regions import extract_regions
from ovsr_gpu.vocabulary import Vocabulary
from pipeline.networks import networks_alone
from reference import ReferencePipeline

Calls = dict[str, Callable[[], Any]]


def our_calls(segmenter: Segmenter, images: list[np.ndarray], vocabulary: Vocabulary) -> Calls:
    """Return a call for each stage of a Segmenter with the encoder "crop", and for the whole method."""
    device, clip, config = segmenter.device, segmenter.clip, segmenter.config
    backbone_batch = NetworkBatch.of(config.features.input_size, device, config.models)
    batch = NetworkBatch.of(clip.image_size, device, config.models)  # for crops
    tensors = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
    batch_of_images = ImageBatch.of(tensors, device)
    texts = segmenter.embed_classes(vocabulary)
    features = pixel_features(segmenter.backbone, batch_of_images, config.features, backbone_batch)
    latents = svd_latents(features, config.latents)
    tree = merge_tree(latents, config.clustering)

    def count_and_cut() -> torch.Tensor:
        return cluster_labels(latents, tree, cluster_count(latents, tree, config.clustering))

    labels = count_and_cut()
    region_map, table = extract_regions(labels, batch_of_images, config.regions)
    regions = PendingRegions(table).read()[0]
    parts = list(
        zip(regions.split(batch.max_rows), regions.spans(len(batch_of_images)).split(batch.max_rows), strict=True)
    )

    def crop() -> list[torch.Tensor]:
        return [region_crops(batch_of_images, region_map, part, spans, clip, config.regions) for part, spans in parts]

    crops = crop()

    def embed() -> torch.Tensor:
        return torch.cat([clip.encode_image(part) for part in crops])

    embeddings = embed()

    def classify() -> LabelledRegions:
        return classify_regions(regions, embeddings, texts, len(batch_of_images), clip.logit_scale, config.recognition)

    labelled = classify()
    offsets = regions.offsets(len(batch_of_images))
    return {
        "features": lambda: pixel_features(segmenter.backbone, batch_of_images, config.features, backbone_batch),
        "latents": lambda: svd_latents(features, config.latents),
        "linkage": lambda: merge_tree(latents, config.clustering),
        "count + cut": count_and_cut,
        "regions": lambda: extract_regions(labels, batch_of_images, config.regions),
        "crops": crop,
        "image embeddings": embed,
        "recognition": classify,
        "class map": lambda: class_map(region_map, offsets, labelled.class_index),
        "dense embeddings": lambda: pooled_embeddings(clip, batch_of_images, region_map, regions, batch),
        "end to end": lambda: PendingTensors(*segmenter(tensors, vocabulary).class_map).wait(),
        "networks alone": networks_alone(segmenter, len(batch_of_images), len(regions)),
    }


def reference_calls(pipeline: ReferencePipeline, images: list[np.ndarray], vocabulary: Vocabulary) -> Calls:
    """Return the same calls for the reference, each a loop over the images."""
    clip, config = pipeline.clip, pipeline.config
    texts = pipeline.embed_texts(vocabulary.synonyms)
    grid = (config.features.grid_size, config.features.grid_size)

    def extract() -> list[Any]:
        return [
            reference.features.pixel_features(pipeline.backbone, image, config.features, pipeline.device)
            for image in images
        ]

    features = extract()

    def decompose() -> list[Any]:
        return [reference.features.svd_latents(one, config.latents) for one in features]

    latents = decompose()

    def link() -> list[Any]:
        return [reference.clustering.merge_tree(components, grid, config.clustering) for components, _ in latents]

    trees = link()

    def count_and_cut() -> list[Any]:
        shape = (grid[0] * grid[1], features[0].shape[2])
        return [
            reference.clustering.cut(
                children, reference.clustering.cluster_count(singular_values, heights, shape, config.clustering)
            ).reshape(grid)
            for (_, singular_values), (children, heights) in zip(latents, trees, strict=True)
        ]

    labels = count_and_cut()

    def extract_all() -> list[Any]:
        return [
            reference.regions.extract_regions(one, image, config.regions)
            for one, image in zip(labels, images, strict=True)
        ]

    regions = extract_all()

    def crop() -> list[Any]:
        return [
            reference.crops.region_crops(image, one, clip, config.regions)
            for image, one in zip(images, regions, strict=True)
        ]

    crops = crop()

    def embed() -> list[Any]:
        return [reference.recognition.embed_images(clip, one) for one in crops]

    embeddings = embed()

    def classify() -> list[Any]:
        return [
            reference.recognition.classify_regions(one, texts, clip.logit_scale, config.recognition)
            for one in embeddings
        ]

    classified = classify()
    return {
        "features": extract,
        "latents": decompose,
        "linkage": link,
        "count + cut": count_and_cut,
        "regions": extract_all,
        "crops": crop,
        "image embeddings": embed,
        "recognition": classify,
        "class map": lambda: [index[one.region_map] for (index, _), one in zip(classified, regions, strict=True)],
        "end to end": lambda: [pipeline(image, texts).class_map for image in images],
    }
