"""The description of a labelling job that is sent to the processes of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ovsr_gpu.config import Config
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.runs.worker import Worker
from ovsr_gpu.runtime.callbacks import Log
from ovsr_gpu.runtime.environment import describe_device
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.gpu_decode import GpuJpegDecoder
from ovsr_gpu.stages.confusable import describe_confusable
from ovsr_gpu.vocabulary import Vocabulary


@dataclass(frozen=True)
class Job:
    """What a process needs to create its worker.

    Attributes:
        config: The configuration of the method.
        vocabulary: The classes.
        backbone_weights, clip, clip_weights: The networks, see `Segmenter.from_pretrained`.
        gpu_decode: Decode JPEG files on the GPU, see `GpuJpegDecoder`.
    """

    config: Config
    vocabulary: Vocabulary
    backbone_weights: str | None = None
    clip: str | None = None
    clip_weights: str | None = None
    gpu_decode: bool = False

    def worker(self, device: torch.device, log: Log) -> Worker:
        """Load the networks, encode the vocabulary and warm up.

        Args:
            device: Where to load them.
            log: Called with messages for the user.

        Returns:
            A worker that is ready to label.

        Raises:
            ModelError, VocabularyError: As `Pipeline.load` does.
            OvsrError: The GPU cannot decode JPEG files, see `GpuJpegDecoder`.
        """
        log(f"Running on {device} ({describe_device(device)})")
        decode = decode_image
        if self.gpu_decode:
            decode = GpuJpegDecoder(device)
            log("JPEG files are decoded on the GPU; a self-test gave the same pixels as Pillow up to rounding")
        log("Loading the models")
        pipeline = Pipeline.load(
            self.config,
            backbone_weights=self.backbone_weights,
            clip=self.clip,
            clip_weights=self.clip_weights,
            device=device,
        )
        log(f"Encoding {len(self.vocabulary)} class names (known ones are read from the cache)")
        if pairs := pipeline.confusable(self.vocabulary):
            log(describe_confusable(pairs))
        if self.config.models.compile or device.type == "cuda":
            log("Warming up: compiling the kernels for this device, and the networks if --compile is set")
            pipeline.warm_up(self.vocabulary)
        return Worker(pipeline, self.vocabulary, decode)
