"""Benchmark of every stage and the whole method, compared with the reference: `pytest benchmarks/bench_pipeline.py`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
import torch

from ovsr_gpu import Config, Segmenter
from ovsr_gpu.config import FeatureConfig, RecognitionConfig
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.runtime.device import choose_device
from ovsr_gpu.vocabulary import Vocabulary
from pipeline.results import stage_row
from pipeline.stages import Calls, our_calls, reference_calls
from pipeline.torch_backend import use_torch_backend
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
TRITON_STAGES = ("latents", "linkage", "regions", "crops", "end to end")  # the stages with Triton kernels
WITHOUT_REFERENCE = ("dense embeddings", "networks alone")
VOCABULARY = Vocabulary.parse("person; dog; cat; car; bicycle; building; road; tree; grass; sky; water; mountain")
BATCHES = (1, 16)
GRIDS = {1: 40, 2: 56}
"""Enlargement factor of the images, and the grid size of their features."""
RANDOM = "random"  # suffix of the name of random weights
SECONDS = 1.0  # time budget of each measurement
MIN_ROUNDS = 2

pytestmark = pytest.mark.usefixtures("quiet_machine")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_cuda = choose_device(metafunc.config.getoption("--device")).type == "cuda"
    enlargements = tuple(GRIDS) if on_cuda or metafunc.config.getoption("--full") else (1,)
    workloads = [(batch, enlargement) for enlargement in enlargements for batch in BATCHES]
    if metafunc.config.getoption("--tiny"):
        workloads = workloads[:1]
    names = [f"B{batch}-x{enlargement}" for batch, enlargement in workloads]
    metafunc.parametrize("workload", workloads, ids=names, indirect=True, scope="module")
    metafunc.parametrize(("stage", "provider"), providers(on_cuda))


def providers(on_cuda: bool) -> list[tuple[str, str]]:
    """Return the implementations of each stage: this package, its torch backend (on CUDA) and the reference."""
    return [
        (stage, provider)
        for stage in STAGES
        for provider in ("ours", "torch", "reference")
        if provider == "ours"
        or (provider == "torch" and on_cuda and stage in TRITON_STAGES)
        or (provider == "reference" and stage not in WITHOUT_REFERENCE)
    ]


@pytest.fixture(scope="module")
def workload(request, device, backbone, clip, images) -> tuple[dict[str, Calls], dict[str, Any]]:
    """Return the calls of all providers on one batch, checked to agree, and a description of the batch."""
    count, enlargement = request.param
    (blocks, backbone_weights), (clip_model, clip_weights) = backbone, clip
    config = Config(
        features=FeatureConfig(grid_size=GRIDS[enlargement]),
        recognition=RecognitionConfig(
            templates=("a photo of a {}.",)
        ),  # texts are not timed, so one template is enough
    )
    batch = [image.repeat(enlargement, axis=0).repeat(enlargement, axis=1) for image in islice(cycle(images), count)]
    segmenter = Segmenter(Pipeline(blocks, clip_model, config, device))
    pipeline = ReferencePipeline(blocks, clip_model, config, device)
    texts = pipeline.embed_texts(VOCABULARY.synonyms)
    prediction, theirs = segmenter(batch, VOCABULARY), [pipeline(image, texts) for image in batch]
    check_agreement("region", prediction.region_map, [result.regions.region_map for result in theirs])
    if not clip_weights.endswith(RANDOM):  # with random weights, the best two classes are almost equal
        check_agreement("class", prediction.class_map, [result.class_map for result in theirs])
    with torch.no_grad():
        ours = our_calls(segmenter, batch, VOCABULARY)
        calls = {"ours": ours, "torch": ours, "reference": reference_calls(pipeline, batch, VOCABULARY)}
    return calls, {
        "batch": len(batch),
        "images": ", ".join(sorted({f"{image.shape[1]}x{image.shape[0]}" for image in batch})),
        "grid": config.features.grid_size,
        "regions": len(prediction.regions),
        "backbone": backbone_weights,
        "clip": clip_weights,
        "clip_precision": str(clip_model.dtype).removeprefix("torch."),
    }


def check_agreement(kind: str, ours: list[torch.Tensor], theirs: list[np.ndarray]) -> None:
    equal = sum(int((a.cpu().numpy() == b).sum()) for a, b in zip(ours, theirs, strict=True))
    fraction = equal / sum(b.size for b in theirs)
    assert fraction >= 0.99, (
        f"the package and the reference assign the same {kind} to only {fraction:.1%} of the pixels"
    )


def test_stage(benchmark, ratios, stage_results, workload, device, stage, provider, record_property):
    calls, description = workload
    call = calls[provider][stage]

    @torch.no_grad()
    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()

    workload_name = "batch {batch}, {images}, grid {grid}".format(**description)
    benchmark.group = f"{stage}, {workload_name}"
    with use_torch_backend() if provider == "torch" else nullcontext():
        start = time.perf_counter()
        run()  # warm-up, and an estimate of the duration
        rounds = int(np.clip(SECONDS / (time.perf_counter() - start), MIN_ROUNDS, 50))
        benchmark.pedantic(run, rounds=rounds)
    if benchmark.stats is None:  # with --benchmark-disable
        return
    row = stage_row(stage, provider, description, benchmark.stats.stats.data)
    ratios.setdefault(workload_name, {}).setdefault(stage, {})[provider] = row
    benchmark.extra_info.update(row, **stage_results.machine)
    stage_results.add(row)
    record_property("row", row)
