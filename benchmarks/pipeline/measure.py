"""Time calls of a Segmenter, and both networks alone, on made images."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clustering.results import Row
from ovsr_gpu import Config, Segmenter
from ovsr_gpu.config import ClusteringConfig, RecognitionConfig, RegionConfig
from ovsr_gpu.results import Prediction
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.vocabulary import Vocabulary
from patchwork import tiles
from pipeline.cases import Case
from pipeline.memory import peak_bytes
from pipeline.networks import networks_alone
from pipeline.results import growth_row

SECONDS = 0.5  # to spend on each case, and at least so many rounds
MIN_ROUNDS, MAX_ROUNDS = 3, 100
STREAMED_BATCHES = 8
SLOW_SECONDS = 2.0  # a call that takes longer is not streamed
DIFFERENT_IMAGES = 4


def config_of(case: Case) -> Config:
    return Config(
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=case.regions),
        regions=RegionConfig(encoder=case.encoder),
        recognition=RecognitionConfig(templates=("a photo of a {}.",)),  # texts are not timed, so one will do
    )


def made_images(case: Case) -> list[Tensor]:
    made = [tiles(*case.shape, case.regions, np.random.default_rng(seed)) for seed in range(DIFFERENT_IMAGES)]
    tensors = [torch.from_numpy(one).permute(2, 0, 1).contiguous() for one in made]
    return list(islice(cycle(tensors), case.batch))


def class_names(case: Case) -> Vocabulary:
    return Vocabulary.parse([f"thing {number}" for number in range(case.classes)])


def measure(case: Case, segmenter: Segmenter, backbone_weights: str, benchmark: Any) -> Row:
    """Return the row of a case; skips the test where the device has too little memory.

    benchmark: the fixture of pytest-benchmark, or None to time without it.
    """
    vocabulary, images = class_names(case), made_images(case)
    seconds: list[float] = []

    def call() -> Prediction:
        start = time.perf_counter()
        prediction = segmenter(images, vocabulary)
        PendingTensors(*prediction.class_map).wait()
        seconds.append(time.perf_counter() - start)
        return prediction

    try:
        regions = len(call().regions)  # warm-up: texts, compiles
        peak = peak_bytes(call, segmenter.device)
        rounds = rounds_for(seconds[-1])
        seconds.clear()
        if benchmark is None:
            for _ in range(rounds):
                call()
        else:
            benchmark.pedantic(call, rounds=rounds)
        with torch.no_grad():
            networks_seconds = timed(networks_alone(segmenter, case.batch, regions), segmenter.device, rounds)
        streamed = None if np.median(seconds) > SLOW_SECONDS else stream_speed(segmenter, images, vocabulary)
    except torch.OutOfMemoryError:
        pytest.skip(f"{segmenter.device} has too little memory for this")

    row = growth_row(
        case,
        seconds,
        networks_seconds,
        regions=regions,
        stream_images_per_second=streamed,
        peak_bytes=peak,
        backbone=backbone_weights,
        precision=str(segmenter.clip.dtype).removeprefix("torch."),
    )
    if benchmark is not None:
        benchmark.extra_info.update(row)
    return row


def rounds_for(seconds: float) -> int:
    """How often a call that takes so long is measured."""
    return int(np.clip(SECONDS / seconds, MIN_ROUNDS, MAX_ROUNDS))


def timed(call: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    """Seconds of each call; CUDA is waited for inside."""
    seconds = []
    for _ in range(rounds):
        wait_for(device)
        start = time.perf_counter()
        call()
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stream_speed(segmenter: Segmenter, images: list[Tensor], vocabulary: Vocabulary) -> float:
    """Images per second through `Segmenter.stream`; the class maps of a batch are copied during the next one."""
    for _ in segmenter.stream([images] * 2, vocabulary):  # warm-up: memory for two batches at a time
        pass
    start = time.perf_counter()
    on_the_way = PendingTensors()
    for prediction in segmenter.stream([images] * STREAMED_BATCHES, vocabulary):
        leaving = PendingTensors(*prediction.class_map)
        on_the_way.wait()
        on_the_way = leaving
    on_the_way.wait()
    return STREAMED_BATCHES * len(images) / (time.perf_counter() - start)
