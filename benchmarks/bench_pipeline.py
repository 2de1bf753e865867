"""Every stage and the whole method, ours and the reference side by side: `pytest benchmarks/`, see the README here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
import torch

import reference.clustering
import reference.crops
import reference.features
import reference.recognition
import reference.regions
from ovsr_gpu import Config, Segmenter
from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.models.device import network_batch
from ovsr_gpu.stages.clustering import cluster_count, cluster_labels, merge_tree
from ovsr_gpu.stages.crops import region_crops
from ovsr_gpu.stages.dense import pooled_embeddings
from ovsr_gpu.stages.features import network_input, pixel_features
from ovsr_gpu.stages.latents import svd_latents
from ovsr_gpu.stages.recognition import class_map, name_regions
from ovsr_gpu.stages.regions import localise
from ovsr_gpu.stages.vocabulary import Vocabulary
from reference import ReferencePipeline

STAGES = (
    "features",
    "latents",
    "linkage",
    "count + cut",
    "regions",
    "crops",
    "image embeddings",
    "recognition",
    "class map",
    "dense embeddings",
    "end to end",
    "networks alone",
)
OURS_ALONE = ("dense embeddings", "networks alone")
CONFIG = Config(recognition=RecognitionConfig(templates=("a photo of a {}.",)))  # texts are not timed, so one will do
VOCABULARY = Vocabulary.parse("person; dog; cat; car; bicycle; building; road; tree; grass; sky; water; mountain")
RANDOM = "random"  # how the name of random weights ends
SECONDS = 1.0  # to spend on each measurement, and at least so many rounds
LEAST_ROUNDS = 2
Calls = dict[str, Callable[[], Any]]

pytestmark = pytest.mark.usefixtures("quiet_machine")


def our_calls(segmenter: Segmenter, pictures: list[np.ndarray]) -> Calls:
    """A call for each stage, on the results of the stages before it."""
    device, clip = segmenter.device, segmenter.clip
    backbone_batch = network_batch(device, CONFIG.features.input_size)
    batch = network_batch(device, clip.image_size)  # of crops
    settings = CONFIG.recognition
    tensors = [torch.from_numpy(picture).permute(2, 0, 1).contiguous() for picture in pictures]
    images = ImageBatch.of(tensors, device)
    texts = segmenter.embed_classes(VOCABULARY)
    features = pixel_features(segmenter.backbone, images, CONFIG.features, backbone_batch)
    latents = svd_latents(features, CONFIG.latents)
    tree = merge_tree(latents, CONFIG.clustering)

    def count_and_cut() -> torch.Tensor:
        return cluster_labels(latents, tree, cluster_count(latents, tree, CONFIG.clustering))

    labels = count_and_cut()
    region_map, regions = localise(labels, images, CONFIG.regions)
    parts = list(zip(regions.split(batch), regions.numbers(len(images)).split(batch), strict=True))

    def crop() -> list[torch.Tensor]:
        return [region_crops(images, region_map, part, number, clip, CONFIG.regions) for part, number in parts]

    crops = crop()

    def embed() -> torch.Tensor:
        return torch.cat([clip.encode_image(part) for part in crops])

    inputs = [network_input(part, CONFIG.features.input_size) for part in images.split(backbone_batch)]
    blocks = segmenter.backbone[: max(CONFIG.features.levels) + 1]

    def networks() -> list[torch.Tensor]:
        return [*map(blocks, inputs), *map(clip.encode_image, crops)]

    embeddings = embed()
    labelled = name_regions(regions, embeddings, texts, len(images), clip.logit_scale, settings)
    return {
        "features": lambda: pixel_features(segmenter.backbone, images, CONFIG.features, backbone_batch),
        "latents": lambda: svd_latents(features, CONFIG.latents),
        "linkage": lambda: merge_tree(latents, CONFIG.clustering),
        "count + cut": count_and_cut,
        "regions": lambda: localise(labels, images, CONFIG.regions),
        "crops": crop,
        "image embeddings": embed,
        "recognition": lambda: name_regions(regions, embeddings, texts, len(images), clip.logit_scale, settings),
        "class map": lambda: class_map(region_map, labelled, len(images)),
        "dense embeddings": lambda: pooled_embeddings(clip, images, region_map, regions, batch),
        "end to end": lambda: [one.cpu() for one in segmenter(tensors, VOCABULARY).class_map],
        "networks alone": networks,
    }


def reference_calls(pipeline: ReferencePipeline, pictures: list[np.ndarray]) -> Calls:
    """The same calls on the reference, each a loop over the pictures."""
    clip, settings = pipeline.clip, CONFIG.recognition
    texts = pipeline.embed_texts(VOCABULARY.synonyms)
    grid = (CONFIG.features.grid_size, CONFIG.features.grid_size)

    def extract() -> list[Any]:
        return [
            reference.features.pixel_features(pipeline.backbone, picture, CONFIG.features, pipeline.device)
            for picture in pictures
        ]

    features = extract()

    def decompose() -> list[Any]:
        return [reference.features.svd_latents(one, CONFIG.latents) for one in features]

    latents = decompose()

    def link() -> list[Any]:
        return [reference.clustering.merge_tree(components, grid, CONFIG.clustering) for components, _ in latents]

    trees = link()

    def count_and_cut() -> list[Any]:
        shape = (grid[0] * grid[1], features[0].shape[2])
        return [
            reference.clustering.cut(
                children, reference.clustering.cluster_count(singular_values, heights, shape, CONFIG.clustering)
            ).reshape(grid)
            for (_, singular_values), (children, heights) in zip(latents, trees, strict=True)
        ]

    labels = count_and_cut()

    def localise_all() -> list[Any]:
        return [
            reference.regions.localise(one, picture.shape[:2], CONFIG.regions)
            for one, picture in zip(labels, pictures, strict=True)
        ]

    regions = localise_all()

    def crop() -> list[Any]:
        return [
            reference.crops.region_crops(picture, one, clip, CONFIG.regions)
            for picture, one in zip(pictures, regions, strict=True)
        ]

    crops = crop()

    def embed() -> list[Any]:
        return [reference.recognition.embed_images(clip, one) for one in crops]

    embeddings = embed()

    def name() -> list[Any]:
        return [reference.recognition.name_regions(one, texts, clip.logit_scale, settings) for one in embeddings]

    named = name()
    return {
        "features": extract,
        "latents": decompose,
        "linkage": link,
        "count + cut": count_and_cut,
        "regions": localise_all,
        "crops": crop,
        "image embeddings": embed,
        "recognition": name,
        "class map": lambda: [index[one.region_map] for (index, _), one in zip(named, regions, strict=True)],
        "end to end": lambda: [pipeline(picture, texts).class_map for picture in pictures],
    }


@pytest.fixture(scope="module", params=[1, 16], ids=lambda batch: f"batch {batch}")
def workload(request, device, backbone, clip, pictures) -> tuple[dict[str, Calls], dict[str, Any]]:
    """The calls of both on one batch, checked to agree, and what the batch is."""
    (blocks, backbone_weights), (clip_model, clip_weights) = backbone, clip
    batch = list(islice(cycle(pictures), request.param))
    segmenter = Segmenter(blocks, clip_model, CONFIG, device)
    pipeline = ReferencePipeline(blocks, clip_model, CONFIG, device)
    texts = pipeline.embed_texts(VOCABULARY.synonyms)
    ours, theirs = segmenter(batch, VOCABULARY), [pipeline(picture, texts) for picture in batch]
    check_agreement("region", ours.region_map, [result.regions.region_map for result in theirs])
    if not clip_weights.endswith(RANDOM):  # to random weights the best two classes are all but equal
        check_agreement("class", ours.class_map, [result.class_map for result in theirs])
    with torch.no_grad():
        calls = {"ours": our_calls(segmenter, batch), "reference": reference_calls(pipeline, batch)}
    return calls, {
        "batch": len(batch),
        "pictures": ", ".join(sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in batch})),
        "regions": len(ours.regions),
        "backbone": backbone_weights,
        "clip": clip_weights,
    }


def check_agreement(kind: str, ours: list[torch.Tensor], theirs: list[np.ndarray]) -> None:
    equal = sum(int((one.cpu().numpy() == other).sum()) for one, other in zip(ours, theirs, strict=True))
    share = equal / sum(one.size for one in theirs)
    assert share >= 0.99, f"ours and the reference give the same {kind} to {share:.1%} of the pixels only"


@pytest.mark.parametrize(
    ("stage", "provider"),
    [
        (stage, provider)
        for stage in STAGES
        for provider in ("ours", "reference")
        if provider == "ours" or stage not in OURS_ALONE
    ],
)
def test_stage(benchmark, ratios, workload, device, stage, provider):
    calls, description = workload
    call = calls[provider][stage]

    @torch.no_grad()
    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    run()  # warm-up, and how long about it takes
    rounds = int(np.clip(SECONDS / (time.perf_counter() - start), LEAST_ROUNDS, 50))
    batch = description["batch"]
    benchmark.group = f"{stage}, batch {batch}"
    benchmark.extra_info.update(description, provider=provider, **machine(device))
    benchmark.pedantic(run, rounds=rounds)
    if benchmark.stats is not None:  # not under --benchmark-disable
        median = benchmark.stats.stats.median
        benchmark.extra_info["pictures_per_second"] = batch / median
        ratios.setdefault((stage, batch), {})[provider] = median


def machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    packages = ("torch", "numpy", "scipy", "scikit-learn", "pillow")
    return {
        "device": f"{device.type}: {name}",
        "torch_threads": torch.get_num_threads(),
        "blas_threads": 1,
        **{package: version(package) for package in packages},
    }
