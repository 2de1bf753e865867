"""The figures that matter most, in about two minutes on a GPU: `pytest benchmarks/bench_headline.py --device cuda`.

End to end beside the networks alone; Ward on both graphs; one image at the least latency; labels beside the CPU's; and
how often the host waits for the device.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import clustering.cases
import clustering.measure
import clustering.providers
import pipeline.cases
import pipeline.measure
from host_reads import NoHostReads
from ovsr_gpu import Segmenter
from ovsr_gpu.datasets import VOID, open_dataset
from ovsr_gpu.evaluation import PixelConfusion
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.runtime.device import choose_device
from pipeline.measure import class_names, config_of, made_images, rounds_for, timed

BATCHES = {"cuda": (1, 16, 64), "cpu": (1, 2)}
CLUSTERING_SIDES = (28, 40)
CLUSTERING_BATCHES = {"cuda": (1, 8, 64, 132), "cpu": (1, 8)}  # 132: the multiprocessors of an H100
LABELLED_IMAGES = 40
LABELLED_BATCH = 8

pytestmark = pytest.mark.usefixtures("own_text_cache")


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
    """Ward by the device's own kernels, and one image by the library that each kernel replaces."""
    own = {"pixel": "triton" if device == "cuda" else "heap", "full": "triton" if device == "cuda" else "torch"}
    libraries = {"pixel": "sklearn", "full": "scipy"}
    sides = (clustering.cases.TINY_SIDE,) if tiny else CLUSTERING_SIDES
    batches = (1, 2) if tiny else CLUSTERING_BATCHES[device]
    return [
        clustering.cases.Case(operation, provider, dtype, side=side, batch=batch)
        for operation in own
        for side in sides
        for provider, dtype, counts in (
            (own[operation], "float32", batches),
            (libraries[operation], "float64", (1,)),
        )
        for batch in counts
    ]


@pytest.fixture
def add_row(headline_results, record_property):
    """A function that keeps the row of a test."""

    def add(**row: object) -> None:
        headline_results.add(row)
        record_property("row", row)

    return add


def test_end_to_end(end_to_end, device, backbone, random_clips, optional_benchmark, add_row):
    blocks, backbone_weights = backbone
    segmenter = Segmenter(Pipeline(blocks, random_clips(end_to_end.model), config_of(end_to_end), device))
    row = pipeline.measure.measure(end_to_end, segmenter, backbone_weights, optional_benchmark)
    add_row(figure="end to end", **row)


def test_one_image_as_a_cuda_graph(device, backbone, random_clips, add_row):
    if device.type != "cuda":
        pytest.skip("a CUDA graph needs a CUDA device")
    case = pipeline.cases.Case(batch=1)
    segmenter = Segmenter(Pipeline(backbone[0], random_clips(case.model), config_of(case), device))
    images = torch.stack(made_images(case)).to(device)
    graph = segmenter.capture(images.shape, class_names(case))

    def call() -> None:
        PendingTensors(*graph(images).class_map).wait()

    seconds = timed(call, device, rounds=3)
    seconds = timed(call, device, rounds_for(min(seconds)))
    median, slow = (1e3 * float(torch.tensor(seconds).quantile(level)) for level in (0.5, 0.95))
    add_row(figure="one image as a CUDA graph", model=case.model, p50_ms=round(median, 3), p95_ms=round(slow, 3))


def test_ward(clustering_case, device, optional_benchmark, add_row):
    if reason := clustering.providers.reason_to_skip(clustering_case, device):
        pytest.skip(reason)
    row = clustering.measure.measure(clustering_case, device, None, None, optional_benchmark)
    add_row(figure="Ward", **row)


def test_labels_beside_those_of_the_cpu(device, request, add_row):
    """The same weights label photographs on the device and on the CPU: the fraction of pixels that agree."""
    if not (folder := os.environ.get("OVSR_TEST_ASSETS")):
        pytest.skip("OVSR_TEST_ASSETS names no folder with real weights and photographs")
    assets = Path(folder)
    dataset = open_dataset("msrc-23", assets / "msrc_v2", assets / "msrc_v2" / "heldout_100.txt")
    examples = dataset.examples[: 2 if request.config.getoption("--tiny") else LABELLED_IMAGES]
    there, here = (
        Segmenter.from_pretrained(
            backbone_weights=assets / "effnet" / "efficientnet_b0_finetuned.pth",
            clip=f"local-dir:{assets / 'clip' / 'effb0_msrc'}",
            device=where,
        )
        for where in (device, "cpu")
    )
    scores = {segmenter: PixelConfusion(len(dataset.vocabulary)) for segmenter in (there, here)}
    pixels = same_class = 0
    for start in range(0, len(examples), LABELLED_BATCH):
        batch = examples[start : start + LABELLED_BATCH]
        paths = [example.source.path for example in batch]
        found, expected = (segmenter(paths, dataset.vocabulary).class_map for segmenter in (there, here))
        for example, one, other in zip(batch, found, expected, strict=True):
            target = torch.from_numpy(example.truth()).long()
            pixels += target.numel()
            same_class += int((one.cpu() == other).sum())
            scores[there].update(one.cpu(), target)
            scores[here].update(other, target)
            assert (target != VOID).any()
    miou, cpu_miou = (100 * scores[segmenter].result().miou for segmenter in (there, here))
    add_row(
        figure="labels beside the CPU's",
        images=len(examples),
        same_class=round(same_class / pixels, 5),
        miou=round(miou, 2),
        cpu_miou=round(cpu_miou, 2),
        clip_precision=str(there.clip.dtype).removeprefix("torch."),
    )
    assert same_class / pixels > 0.95


def test_host_synchronizations(device, backbone, random_clips, add_row):
    """From decoded images on the device to class maps there, the host reads one number, and does not block for it."""
    case = pipeline.cases.Case(batch=2, size="320x240")
    segmenter = Segmenter(Pipeline(backbone[0], random_clips(case.model), config_of(case), device))
    vocabulary, images = class_names(case), torch.stack(made_images(case)).to(device)
    segmenter(images, vocabulary)  # compiles, and embeds the classes
    if device.type == "cuda":
        synchronizations, copies = traced(segmenter, images, vocabulary)
    else:
        with NoHostReads() as guard:
            segmenter(images, vocabulary)
        synchronizations, copies = 0, guard.late
    add_row(figure="host synchronizations", synchronizations=synchronizations, copies_to_host=copies)
    assert (synchronizations, copies) == (0, 1)


def traced(segmenter: Segmenter, images: torch.Tensor, vocabulary: object) -> tuple[int, int]:
    """Synchronizations and copies to the host during a call, from the trace of torch's profiler."""
    torch.cuda.synchronize()
    with torch.profiler.profile() as profile, torch.profiler.record_function("call"):
        segmenter(images, vocabulary)
    events = profile.events()
    call = next(event.time_range for event in events if event.name == "call")
    during = [event.name for event in events if call.start <= event.time_range.start <= call.end]
    waits = [name for name in during if name in ("cudaStreamSynchronize", "cudaDeviceSynchronize")]
    return len(waits), sum(event.name.startswith("Memcpy DtoH") for event in events)
