"""Training of the embedded backbone: pixels of one region alike, regions apart, as Ward's criterion measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ovsr_gpu.config import FeatureConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.embedded import narrow_efficientnet
from ovsr_gpu.models.network_batch import NetworkBatch
from ovsr_gpu.stages.features import pixel_features
from ovsr_gpu.synthetic.scenes import Scene
from ovsr_gpu.synthetic.schedule import shuffled, warmed_cosine

EPOCHS = 3
BATCH = 8
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
MARGIN = 0.12
"""Fraction of the total variance that merging two regions should cost at least; the pipeline's threshold is 0.035."""


def train_backbone(scenes: Sequence[Scene], seed: int, report: Callable[[str], None]) -> nn.Sequential:
    """A narrow EfficientNet whose grid features fall into the regions of the scenes, in eval mode on the CPU."""
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    network = narrow_efficientnet().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(scenes) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_cosine(step, steps))
    config = FeatureConfig()
    losses = []
    for step, picked in zip(range(1, steps + 1), shuffled(len(scenes), BATCH, draws), strict=False):
        batch = [scenes[index] for index in picked]
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in batch])).permute(0, 3, 1, 2)
        regions = torch.stack([region_grid(scene, config.grid_size) for scene in batch])
        mirrored = torch.from_numpy(draws.random(BATCH) < 0.5)
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        regions = torch.where(mirrored[:, None, None], regions.flip(2), regions)
        features = pixel_features(
            network, ImageBatch.of(pixels.contiguous(), torch.device("cpu")), config, NetworkBatch(BATCH)
        )
        loss = ward_loss(features, regions)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            report(f"backbone: step {step} of {steps}, loss {np.mean(losses):.4f}")
            losses = []
    return network.eval().requires_grad_(False)


def ward_loss(features: Tensor, regions: Tensor) -> Tensor:
    """How far the features are from clusters that Ward's method finds.

    features: `[B, C, h, w]` float32. regions: `[B, h, w]` int64, numbers 0..n-1 in each image. In each image: the
    fraction of the total variance that lies within the regions, plus the mean over the pairs of regions of the fraction of
    MARGIN by which the cost of merging them, (n m / (n + m)) |mean - mean'|^2 over the total, falls short of it.
    """
    pixels = features.flatten(2).mT  # [B, P, C]
    member = nn.functional.one_hot(regions.flatten(1)).to(pixels.dtype)  # [B, P, n]
    size = member.sum(1)  # [B, n]
    mean = member.mT @ pixels / size.clamp_min(1)[:, :, None]
    total = (pixels - pixels.mean(1, keepdim=True)).square().sum((1, 2))
    within = (pixels - member @ mean).square().sum((1, 2)) / total
    apart = (mean[:, :, None] - mean[:, None]).square().sum(3)
    weight = size[:, :, None] * size[:, None] / (size[:, :, None] + size[:, None]).clamp_min(1)
    shortfall = (1 - weight * apart / total[:, None, None] / MARGIN).clamp_min(0)
    pair = ((size[:, :, None] > 0) & (size[:, None] > 0)).triu(1)
    between = (shortfall * pair).sum((1, 2)) / pair.sum((1, 2)).clamp_min(1)
    return (within + between).mean()


def region_grid(scene: Scene, grid_size: int) -> Tensor:
    """The region under the center of each grid cell: `[h, w]` int64, numbers 0..n-1."""
    height, width = scene.labels.shape
    row = ((2 * np.arange(grid_size) + 1) * height) // (2 * grid_size)
    column = ((2 * np.arange(grid_size) + 1) * width) // (2 * grid_size)
    _, number = np.unique(scene.things[row[:, None], column], return_inverse=True)
    return torch.from_numpy(number.reshape(grid_size, grid_size))
