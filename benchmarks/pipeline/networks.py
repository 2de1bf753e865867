"""The networks of the method: CLIP with random weights, and both networks alone, which bound the whole."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import torch
from torch import Tensor

from ovsr_gpu import Segmenter
from ovsr_gpu.config import ModelConfig
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.models.dense_tower import dense_tower
from ovsr_gpu.models.network_batch import NetworkBatch, clip_dtype, float32_convolutions


def random_clip(name: str, device: torch.device) -> ClipModel:
    """The architecture that open_clip knows as `name`, with random weights, in the package's precision for `device`."""
    torch.manual_seed(0)
    module, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
    return ClipModel(name, module, tokenizer, device, {}).use_precision(clip_dtype(device, ModelConfig()))


def networks_alone(segmenter: Segmenter, images: int, regions: int) -> Callable[[], object]:
    """A call of both networks for so many images and regions, in the batches and precisions of `segmenter`.

    What they are given is noise that lies ready on the device.
    """
    clip, config = segmenter.clip, segmenter.config

    def noise(count: int, side: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        rows = torch.randn(count, 3, side, side, dtype=dtype, device=segmenter.device)
        most = NetworkBatch.of(side, segmenter.device, config.models).most
        return rows.to(memory_format=torch.channels_last).split(most)

    dense = config.regions.encoder == "dense"
    tower = dense_tower(clip).features if dense else clip.encode_image
    squashed = noise(images, config.features.input_size, torch.float32)
    seen_by_clip = noise(images if dense else regions, clip.image_size, clip.dtype)
    blocks = segmenter.backbone[: max(config.features.levels) + 1]

    def call() -> object:
        with float32_convolutions():
            features = [blocks(part) for part in squashed]
        return features, [tower(part) for part in seen_by_clip]

    return call
