"""CLIP with random weights, and both networks alone, whose time is a lower bound of the whole method's."""

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
    """Return the open_clip architecture `name` with random weights, in the package's precision for `device`."""
    torch.manual_seed(0)
    module, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
    return ClipModel(name, module, tokenizer, device, {}).use_precision(clip_dtype(device, ModelConfig()))


def networks_alone(segmenter: Segmenter, images: int, regions: int) -> Callable[[], object]:
    """Return a function that runs both networks, with the batches and precisions of `segmenter`.

    Args:
        segmenter: Segmenter whose networks run.
        images: Number of images.
        regions: Number of regions of all images.

    Returns:
        The function. Its inputs are random numbers that are already on the device.
    """
    clip, config = segmenter.clip, segmenter.config

    def noise(count: int, side: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        rows = torch.randn(count, 3, side, side, dtype=dtype, device=segmenter.device)
        max_batch = NetworkBatch.of(side, segmenter.device, config.models).max_rows
        return rows.to(memory_format=torch.channels_last).split(max_batch)

    dense = config.regions.encoder == "dense"
    tower = dense_tower(clip).features if dense else clip.encode_image
    backbone_inputs = noise(images, config.features.input_size, torch.float32)
    clip_inputs = noise(images if dense else regions, clip.image_size, clip.dtype)
    blocks = segmenter.backbone[: max(config.features.levels) + 1]

    def call() -> object:
        with float32_convolutions():
            features = [blocks(part) for part in backbone_inputs]
        return features, [tower(part) for part in clip_inputs]

    return call
