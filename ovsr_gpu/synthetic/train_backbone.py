"""Train the embedded backbone: small variance within regions, large cost of merging regions by Ward's method."""

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
from ovsr_gpu.synthetic.schedule import shuffled_batches, warmup_cosine

EPOCHS = 3
BATCH_SIZE = 8
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
MARGIN = 0.12
"""Minimum cost of merging two regions, as a fraction of the total variance; the pipeline's threshold is 0.035."""


def train_backbone(scenes: Sequence[Scene], seed: int, report: Callable[[str], None]) -> nn.Sequential:
    """Train a narrow EfficientNet whose grid features cluster into the regions of the scenes.

    Args:
        scenes: The training scenes.
        seed: Seed of the weights and of the batches.
        report: Called with a line about the progress.

    Returns:
        The network on the CPU, in eval mode and without gradients.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = narrow_efficientnet().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    num_steps = EPOCHS * (len(scenes) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, num_steps))
    config = FeatureConfig()
    losses = []
    for step, indices in zip(range(1, num_steps + 1), shuffled_batches(len(scenes), BATCH_SIZE, rng), strict=False):
        batch = [scenes[index] for index in indices]
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in batch])).permute(0, 3, 1, 2)
        regions = torch.stack([region_grid(scene, config.grid_size) for scene in batch])
        is_mirrored = torch.from_numpy(rng.random(BATCH_SIZE) < 0.5)
        pixels = torch.where(is_mirrored[:, None, None, None], pixels.flip(3), pixels)
        regions = torch.where(is_mirrored[:, None, None], regions.flip(2), regions)
        features = pixel_features(
            network, ImageBatch.of(pixels.contiguous(), torch.device("cpu")), config, NetworkBatch(BATCH_SIZE)
        )
        loss = ward_loss(features, regions)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == num_steps:
            report(f"backbone: step {step} of {num_steps}, loss {np.mean(losses):.4f}")
            losses = []
    return network.eval().requires_grad_(False)


def ward_loss(features: Tensor, regions: Tensor) -> Tensor:
    """Return a loss that is 0 for features that Ward's method clusters exactly into the regions.

    The loss of an image is the fraction of the total variance within the regions, plus the mean over pairs of regions
    of max(0, 1 - cost / MARGIN), where cost = (n m / (n + m)) |mean - mean'|^2 / total is the Ward cost of merging
    regions of n and m pixels.

    Args:
        features: `[B, C, h, w]` float32.
        regions: `[B, h, w]` int64, numbers 0..K - 1 in each image.

    Returns:
        The mean over the images, a scalar.
    """
    pixels = features.flatten(2).mT  # [B, P, C]
    membership = nn.functional.one_hot(regions.flatten(1)).to(pixels.dtype)  # [B, P, K]
    size = membership.sum(1)  # [B, K]
    mean = membership.mT @ pixels / size.clamp_min(1)[:, :, None]
    total = (pixels - pixels.mean(1, keepdim=True)).square().sum((1, 2))
    within = (pixels - membership @ mean).square().sum((1, 2)) / total
    squared_distance = (mean[:, :, None] - mean[:, None]).square().sum(3)  # [B, K, K]
    weight = size[:, :, None] * size[:, None] / (size[:, :, None] + size[:, None]).clamp_min(1)
    shortfall = (1 - weight * squared_distance / total[:, None, None] / MARGIN).clamp_min(0)
    is_pair = ((size[:, :, None] > 0) & (size[:, None] > 0)).triu(1)
    between = (shortfall * is_pair).sum((1, 2)) / is_pair.sum((1, 2)).clamp_min(1)
    return (within + between).mean()


def region_grid(scene: Scene, grid_size: int) -> Tensor:
    """Return the region at the center of each grid cell: `[h, w]` int64, numbers 0..K - 1."""
    height, width = scene.labels.shape
    row = ((2 * np.arange(grid_size) + 1) * height) // (2 * grid_size)
    column = ((2 * np.arange(grid_size) + 1) * width) // (2 * grid_size)
    _, region_index = np.unique(scene.region_ids[row[:, None], column], return_inverse=True)
    return torch.from_numpy(region_index.reshape(grid_size, grid_size))
