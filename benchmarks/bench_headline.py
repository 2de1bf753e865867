"""Benchmark of the key results, in about two minutes on a GPU: `pytest benchmarks/bench_headline.py --device cuda`.

It measures the method end to end and the networks alone, Ward on both graphs, the latency of one image, the agreement
of labels with the CPU, and the number of host synchronizations.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import clustering.cases
import clustering.measure
import clustering.providers
import pipeline.cases
import pipeline.measure
from host_reads import NoHostReads, trace
from ovsr_gpu import Segmenter
from ovsr_gpu.datasets import VOID, open_dataset
from ovsr_gpu.evaluation import ConfusionMatrix
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.runtime.device import choose_device
from pipeline.measure import class_names, config_of, generate_images, rounds_for, time_calls

BATCHES = {"cuda": (1, 16, 64), "cpu": (1, 2)}
CLUSTERING_SIDES = (28, 40)
CLUSTERING_BATCHES = {"cuda": (1, 8, 64, 132), "cpu": (1, 8)}  # 132: the number of multiprocessors of an H100
LABELLED_IMAGES = 40
LABELLED_BATCH = 8

pytestmark = pytest.mark.usefixtures("separate_text_cache")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    tiny, device = metafunc.config.getoption("--tiny"), choose_device(metafunc.config.getoption("--device"))
    if "end_to_end" in metafunc.fixturenames:
        metafunc.parametrize("end_to_end", end_to_end_cases(device.type, tiny), ids=str)
    if "clustering_case" in metafunc.fixturenames:
        metafunc.parametrize("clustering_case", clustering_cases(device.type, tiny), ids=str)


def end_to_end_cases(device: str, tiny: bool) -> list[pipeline.cases.Case]:
    if tiny:
        return pipeline.cases.tiny_cases()[:1]
    return [pipeline.cases.Case(model, batch=batch) for model in pipeline.cases.MODELS for batch in BATCHES[device]]


def clustering_cases(device: str, tiny: bool) -> list[clustering.cases.Case]:
    """Return Ward with the kernels of the device, and with the library that each kernel replaces for one image."""
    backends = {"pixel": "triton" if device == "cuda" else "heap", "full": "triton" if device == "cuda" else "torch"}
    libraries = {"pixel": "sklearn", "full": "scipy"}
    sides = (clustering.cases.TINY_SIDE,) if tiny else CLUSTERING_SIDES
    batches = (1, 2) if tiny else CLUSTERING_BATCHES[device]
    return [
        clustering.cases.Case(operation, provider, dtype, side=side, batch=batch)
        for operation in backends
        for side in sides
        for provider, dtype, provider_batches in (
            (backends[operation], "float32", batches),
            (libraries[operation], "float64", (1,)),
        )
        for batch in provider_batches
    ]


@pytest.fixture
def add_row(headline_results, record_property):
    """Return a function that stores the row of a test."""

    def add(**row: object) -> None:
        headline_results.add(row)
        record_property("row", row)

    return add


def test_end_to_end(end_to_end, device, backbone, random_clips, optional_benchmark, add_row):
    blocks, backbone_weights = backbone
    segmenter = Segmenter(Pipeline(blocks, random_clips(end_to_end.model), config_of(end_to_end), device))
    row = pipeline.measure.measure(end_to_end, segmenter, backbone_weights, optional_benchmark)
    add_row(measurement="end to end", **row)


def test_one_image_as_a_cuda_graph(device, backbone, random_clips, add_row):
    if device.type != "cuda":
        pytest.skip("a CUDA graph needs a CUDA device")
    case = pipeline.cases.Case(batch=1)
    segmenter = Segmenter(Pipeline(backbone[0], random_clips(case.model), config_of(case), device))
    images = torch.stack(generate_images(case)).to(device)
    graph = segmenter.capture(images.shape, class_names(case))

    def call() -> None:
        PendingTensors(*graph(images).class_map).wait()

    seconds = time_calls(call, device, rounds=3)
    seconds = time_calls(call, device, rounds_for(min(seconds)))
    p50, p95 = (1e3 * np.quantile(seconds, [0.5, 0.95])).tolist()
    add_row(measurement="one image as a CUDA graph", model=case.model, p50_ms=round(p50, 3), p95_ms=round(p95, 3))


def test_ward(clustering_case, device, optional_benchmark, add_row):
    if reason := clustering.providers.reason_to_skip(clustering_case, device):
        pytest.skip(reason)
    row = clustering.measure.measure(clustering_case, device, None, None, optional_benchmark)
    add_row(measurement="Ward", **row)


def test_labels_agree_with_the_cpu(device, request, add_row):
    """Measure the fraction of pixels with the same class on the device and on the CPU, with the same weights."""
    if not (folder := os.environ.get("OVSR_TEST_ASSETS")):
        pytest.skip("OVSR_TEST_ASSETS is not set to a folder with real weights and photographs")
    assets = Path(folder)
    dataset = open_dataset("msrc-23", assets / "msrc_v2", assets / "msrc_v2" / "heldout_100.txt")
    examples = dataset.examples[: 2 if request.config.getoption("--tiny") else LABELLED_IMAGES]
    on_device, on_cpu = (
        Segmenter.from_pretrained(
            backbone_weights=assets / "effnet" / "efficientnet_b0_finetuned.pth",
            clip=f"local-dir:{assets / 'clip' / 'effb0_msrc'}",
            device=segmenter_device,
        )
        for segmenter_device in (device, "cpu")
    )
    scores = {segmenter: ConfusionMatrix(len(dataset.vocabulary)) for segmenter in (on_device, on_cpu)}
    pixels = same_class = 0
    for start in range(0, len(examples), LABELLED_BATCH):
        batch = examples[start : start + LABELLED_BATCH]
        paths = [example.source.path for example in batch]
        maps, cpu_maps = (segmenter(paths, dataset.vocabulary).class_map for segmenter in (on_device, on_cpu))
        for example, class_map, cpu_map in zip(batch, maps, cpu_maps, strict=True):
            target = torch.from_numpy(example.target()).long()
            pixels += target.numel()
            same_class += int((class_map.cpu() == cpu_map).sum())
            scores[on_device].update(class_map.cpu(), target)
            scores[on_cpu].update(cpu_map, target)
            assert (target != VOID).any()
    miou, cpu_miou = (100 * scores[segmenter].compute().miou for segmenter in (on_device, on_cpu))
    add_row(
        measurement="labels on the device and the CPU",
        images=len(examples),
        same_class=round(same_class / pixels, 5),
        miou=round(miou, 2),
        cpu_miou=round(cpu_miou, 2),
        clip_precision=str(on_device.clip.dtype).removeprefix("torch."),
    )
    assert same_class / pixels > 0.95


def test_host_synchronizations(device, backbone, random_clips, add_row):
    """Check that, from decoded images to class maps on the device, the host reads one number and does not block."""
    case = pipeline.cases.Case(batch=2, size="320x240")
    segmenter = Segmenter(Pipeline(backbone[0], random_clips(case.model), config_of(case), device))
    vocabulary, images = class_names(case), torch.stack(generate_images(case)).to(device)
    segmenter(images, vocabulary)  # warm-up: compilation and class embeddings
    if device.type == "cuda":
        traced = trace(lambda: segmenter(images, vocabulary))
        synchronizations, copies = len(traced.synchronizations), len(traced.copies_to_host)
    else:
        with NoHostReads() as guard:
            segmenter(images, vocabulary)
        synchronizations, copies = 0, guard.num_pending_reads
    add_row(measurement="host synchronizations", synchronizations=synchronizations, copies_to_host=copies)
    assert (synchronizations, copies) == (0, 1)
