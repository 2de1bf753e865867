"""End to end: how the cost of the whole method grows with its work: `pytest benchmarks/bench_growth.py`."""

from __future__ import annotations

import time
from functools import cache
from itertools import cycle, islice

import numpy as np
import pytest
import torch
from torch import Tensor

from ovsr_gpu import Config, Segmenter
from ovsr_gpu.config import ClusteringConfig, RecognitionConfig, RegionConfig
from ovsr_gpu.models.device import choose_device
from ovsr_gpu.stages.vocabulary import Vocabulary
from ovsr_gpu.structures import Prediction
from ovsr_gpu.transfers import LateTensors
from patchwork import tiles
from pipeline.cases import Case, cases
from pipeline.memory import peak_bytes
from pipeline.networks import networks_alone, random_clip
from pipeline.results import growth_row

SECONDS = 0.5  # to spend on each case, and at least so many rounds
LEAST_ROUNDS, MOST_ROUNDS = 3, 100
STREAMED_BATCHES = 8
SLOW_SECONDS = 2.0  # a call that takes longer is not streamed
DIFFERENT_PICTURES = 4

pytestmark = pytest.mark.usefixtures("own_text_cache")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device = choose_device(metafunc.config.getoption("--device"))
    metafunc.parametrize("case", cases(device.type, metafunc.config.getoption("--full")), ids=str)


@pytest.fixture(scope="session")
def random_clips(device):
    """A function from names to models, which are kept."""
    return cache(lambda name: random_clip(name, device))


def config_of(case: Case) -> Config:
    return Config(
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=case.regions),
        regions=RegionConfig(encoder=case.encoder),
        recognition=RecognitionConfig(templates=("a photo of a {}.",)),  # texts are not timed, so one will do
    )


def made_pictures(case: Case) -> list[Tensor]:
    made = [tiles(*case.shape, case.regions, np.random.default_rng(seed)) for seed in range(DIFFERENT_PICTURES)]
    tensors = [torch.from_numpy(one).permute(2, 0, 1).contiguous() for one in made]
    return list(islice(cycle(tensors), case.batch))


def test_growth(case, device, backbone, random_clips, growth_results, optional_benchmark):
    blocks, backbone_weights = backbone
    clip = random_clips(case.model)
    segmenter = Segmenter(blocks, clip, config_of(case), device)
    vocabulary = Vocabulary.parse([f"thing {number}" for number in range(case.classes)])
    pictures = made_pictures(case)
    seconds: list[float] = []

    def call() -> Prediction:
        start = time.perf_counter()
        prediction = segmenter(pictures, vocabulary)
        LateTensors(*prediction.class_map).wait()
        seconds.append(time.perf_counter() - start)
        return prediction

    try:
        regions = len(call().regions)  # warm-up: texts, compiles
        peak = peak_bytes(call, device)
        rounds = int(np.clip(SECONDS / seconds[-1], LEAST_ROUNDS, MOST_ROUNDS))
        seconds.clear()
        if optional_benchmark is None:
            for _ in range(rounds):
                call()
        else:
            optional_benchmark.pedantic(call, rounds=rounds)
        networks_seconds = time_networks(segmenter, case.batch, regions, rounds)
        streamed = None if np.median(seconds) > SLOW_SECONDS else stream_speed(segmenter, pictures, vocabulary)
    except torch.OutOfMemoryError:
        pytest.skip(f"{device} has too little memory for this")

    row = growth_row(
        case,
        seconds,
        networks_seconds,
        regions=regions,
        stream_pictures_per_second=streamed,
        peak_bytes=peak,
        backbone=backbone_weights,
        precision=str(clip.dtype).removeprefix("torch."),
    )
    growth_results.add(row)
    if optional_benchmark is not None:
        optional_benchmark.extra_info.update(row)


@torch.no_grad()
def time_networks(segmenter: Segmenter, pictures: int, regions: int, rounds: int) -> list[float]:
    call = networks_alone(segmenter, pictures, regions)
    seconds = []
    for _ in range(rounds):
        wait_for(segmenter.device)
        start = time.perf_counter()
        call()
        wait_for(segmenter.device)
        seconds.append(time.perf_counter() - start)
    return seconds


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stream_speed(segmenter: Segmenter, pictures: list[Tensor], vocabulary: Vocabulary) -> float:
    """Pictures a second through `Segmenter.stream`, while the class maps before them are on their way to the host."""
    for _ in segmenter.stream([pictures] * 2, vocabulary):  # warm-up: memory for two batches at a time
        pass
    start = time.perf_counter()
    on_the_way = LateTensors()
    for prediction in segmenter.stream([pictures] * STREAMED_BATCHES, vocabulary):
        leaving = LateTensors(*prediction.class_map)
        on_the_way.wait()
        on_the_way = leaving
    on_the_way.wait()
    return STREAMED_BATCHES * len(pictures) / (time.perf_counter() - start)
