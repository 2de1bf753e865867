"""What a process has to know to label images."""

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
    """The models, see `Segmenter.from_pretrained`, and the vocabulary; `gpu_decode`: JPEG files by `GpuJpegDecoder`."""

    config: Config
    vocabulary: Vocabulary
    backbone_weights: str | None = None
    clip: str | None = None
    clip_weights: str | None = None
    gpu_decode: bool = False

    def worker(self, device: torch.device, log: Log) -> Worker:
        """Load everything on `device` and warm it up; `say` is told what goes on.

        Raises ModelError and VocabularyError as the segmenter does, OvsrError as `GpuJpegDecoder` does.
        """
        log(f"Running on {device} ({describe_device(device)})")
        decode = decode_image
        if self.gpu_decode:
            decode = GpuJpegDecoder(device)
            log("JPEG files are decoded on the GPU, which gives what Pillow does up to rounding (tested just now)")
        log("Loading the models")
        pipeline = Pipeline.load(
            self.config,
            backbone_weights=self.backbone_weights,
            clip=self.clip,
            clip_weights=self.clip_weights,
            device=device,
        )
        log(f"Encoding {len(self.vocabulary)} class names (those met before come from the cache)")
        if pairs := pipeline.confusable(self.vocabulary):
            log(describe_confusable(pairs))
        if self.config.models.compile or device.type == "cuda":
            log("Warming up: kernels are compiled for this device, and the networks if asked for")
            pipeline.warm_up(self.vocabulary)
        return Worker(pipeline, self.vocabulary, decode)
