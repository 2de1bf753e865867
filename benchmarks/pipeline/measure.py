"""Timing of calls of a Segmenter, and of both networks alone, on generated images."""

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

SECONDS = 0.5  # time budget of each case
MIN_ROUNDS, MAX_ROUNDS = 3, 100
STREAMED_BATCHES = 8
SLOW_SECONDS = 2.0  # slower calls are not streamed
DIFFERENT_IMAGES = 4


def config_of(case: Case) -> Config:
    return Config(
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=case.regions),
        regions=RegionConfig(encoder=case.encoder),
        recognition=RecognitionConfig(
            templates=("a photo of a {}.",)
        ),  # texts are not timed, so one template is enough
    )


def generate_images(case: Case) -> list[Tensor]:
    images = [tiles(*case.shape, case.regions, np.random.default_rng(seed)) for seed in range(DIFFERENT_IMAGES)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
    return list(islice(cycle(tensors), case.batch))


def class_names(case: Case) -> Vocabulary:
    return Vocabulary.parse([f"thing {number}" for number in range(case.classes)])


def measure(case: Case, segmenter: Segmenter, backbone_weights: str, benchmark: Any) -> Row:
    """Measure a case and return its row; skip the test if the device has too little memory.

    Args:
        case: The case.
        segmenter: Segmenter with the case's config.
        backbone_weights: Description of the backbone's weights.
        benchmark: Fixture of pytest-benchmark; None to time without it.
    """
    vocabulary, images = class_names(case), generate_images(case)
    seconds: list[float] = []

    def call() -> Prediction:
        start = time.perf_counter()
        prediction = segmenter(images, vocabulary)
        PendingTensors(*prediction.class_map).wait()
        seconds.append(time.perf_counter() - start)
        return prediction

    try:
        regions = len(call().regions)  # warm-up: text embeddings and compilation
        peak = peak_bytes(call, segmenter.device)
        rounds = rounds_for(seconds[-1])
        seconds.clear()
        if benchmark is None:
            for _ in range(rounds):
                call()
        else:
            benchmark.pedantic(call, rounds=rounds)
        with torch.no_grad():
            networks_seconds = time_calls(networks_alone(segmenter, case.batch, regions), segmenter.device, rounds)
        stream_rate = (
            None if np.median(seconds) > SLOW_SECONDS else stream_images_per_second(segmenter, images, vocabulary)
        )
    except torch.OutOfMemoryError:
        pytest.skip(f"{segmenter.device} does not have enough memory for this case")

    row = growth_row(
        case,
        seconds,
        networks_seconds,
        regions=regions,
        stream_images_per_second=stream_rate,
        peak_bytes=peak,
        backbone=backbone_weights,
        precision=str(segmenter.clip.dtype).removeprefix("torch."),
    )
    if benchmark is not None:
        benchmark.extra_info.update(row)
    return row


def rounds_for(seconds: float) -> int:
    """Return the number of rounds for a call that takes this many seconds."""
    return int(np.clip(SECONDS / seconds, MIN_ROUNDS, MAX_ROUNDS))


def time_calls(call: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    """Return the seconds of each call, including synchronization with a CUDA device."""
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


def stream_images_per_second(segmenter: Segmenter, images: list[Tensor], vocabulary: Vocabulary) -> float:
    """Return images per second of `Segmenter.stream`, with class maps copied to the host during the next batch."""
    for _ in segmenter.stream([images] * 2, vocabulary):  # warm-up: memory for two concurrent batches
        pass
    start = time.perf_counter()
    pending = PendingTensors()
    for prediction in segmenter.stream([images] * STREAMED_BATCHES, vocabulary):
        next_pending = PendingTensors(*prediction.class_map)
        pending.wait()
        pending = next_pending
    pending.wait()
    return STREAMED_BATCHES * len(images) / (time.perf_counter() - start)
