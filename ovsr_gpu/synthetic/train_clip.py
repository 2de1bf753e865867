"""Train the embedded CLIP: region crops against captions, with "something else" for regions without a caption."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.factory import set_model_preprocess_cfg
from torch import Tensor, nn

from ovsr_gpu.config import Config, RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.clip import BPE_FILE, ClipModel
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.results import PendingRegions
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.stages.crops import region_crops
from ovsr_gpu.stages.regions import extract_regions
from ovsr_gpu.synthetic.bpe import learn_merges, vocabulary_size, write_merges
from ovsr_gpu.synthetic.scenes import SEEN_COMBINATIONS, Scene
from ovsr_gpu.synthetic.schedule import shuffled_batches, warmup_cosine
from ovsr_gpu.synthetic.surfaces import BACKGROUNDS, PATTERNS
from ovsr_gpu.synthetic.train_backbone import region_grid
from ovsr_gpu.vocabulary import SOMETHING_ELSE

NUM_STEPS = 6000
BATCH_SIZE = 64
LEARNING_RATE, WEIGHT_DECAY = 5e-4, 0.05
MIN_PURITY = 0.6
"""Minimum fraction of a training region that belongs to one object or background."""
MAX_CAPTION_DROPOUT = 0.5
"""Each step drops captions with a probability drawn from [0, this]; regions without a caption are "something else"."""

CAPTION_FORMATS = {"{shape}": 0.4, "{color} {shape}": 0.35, "{pattern} {shape}": 0.1, "{pattern} {color} {shape}": 0.15}
"""Caption formats of objects and the probability of each per step; the caption of a background is its name."""

VISION = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
"""CLIP's residual network; with so few crops it learns shapes many times faster than a vision transformer."""
TEXT = {"context_length": 32, "width": 128, "heads": 4, "layers": 2}
EMBEDDING_WIDTH = 128
SIDE = VISION["image_size"]


@dataclass(frozen=True)
class Crops:
    """Region crops with their captions.

    Attributes:
        pixels: `[N, 3, S, S]` uint8.
        captions: Captions of the N crops, by caption format.
    """

    pixels: Tensor
    captions: dict[str, list[str]]


def train_clip(
    backbone: nn.Sequential, scenes: Sequence[Scene], folder: Path, seed: int, report: Callable[[str], None]
) -> nn.Module:
    """Train a small CLIP on the regions of the scenes.

    Args:
        backbone: The backbone whose features give the regions.
        scenes: The training scenes.
        folder: The configuration and the BPE merges are written here, but not the weights.
        seed: Seed of the weights and of the batches.
        report: Called with a line about the progress.

    Returns:
        The open_clip module on the CPU, in eval mode and without gradients.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    clip, module, tokenizer = create_clip(folder)
    config = Config(regions=RegionConfig(boundaries="grid"))  # the setting of the shipped weights
    crops = crop_regions(Segmenter(Pipeline(backbone, clip, config, torch.device("cpu"))), scenes)
    report(f"CLIP: {len(crops.pixels)} regions of {len(scenes)} scenes")

    module.requires_grad_(True).train()
    decayed = [weight for weight in module.parameters() if weight.ndim >= 2]
    others = [weight for weight in module.parameters() if weight.ndim < 2]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, NUM_STEPS))
    vocabularies = {caption_format: caption_vocabulary(caption_format) for caption_format in CAPTION_FORMATS}
    losses, accuracies = [], []
    for step, indices in zip(
        range(1, NUM_STEPS + 1), shuffled_batches(len(crops.pixels), BATCH_SIZE, rng), strict=False
    ):
        caption_format = rng.choice(list(CAPTION_FORMATS), p=list(CAPTION_FORMATS.values()))
        captions = crops.captions[caption_format]
        texts, text_index = sample_texts(vocabularies[caption_format], rng)
        target = torch.tensor([text_index.get(captions[index], len(texts) - 1) for index in indices])
        image_embeddings = module.encode_image(augment(crops.pixels[indices], clip, rng), normalize=True)
        text_embeddings = module.encode_text(tokenizer(texts), normalize=True)
        logits = module.logit_scale.exp() * image_embeddings @ text_embeddings.mT
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            module.logit_scale.clamp_(0, np.log(100))
        losses.append(loss.item())
        accuracies.append((logits.argmax(1) == target).float().mean().item())
        if step % 100 == 0 or step == NUM_STEPS:
            report(f"CLIP: step {step} of {NUM_STEPS}, loss {np.mean(losses):.3f}, accuracy {np.mean(accuracies):.1%}")
            losses, accuracies = [], []
    return module.eval().requires_grad_(False)


def create_clip(folder: Path) -> tuple[ClipModel, Any, Any]:
    """Return a CLIP with random weights, its module and its tokenizer; write all except the weights to `folder`."""
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES
    names = [name for caption_format in CAPTION_FORMATS for name in caption_vocabulary(caption_format)]
    merges = learn_merges([template(name).lower() for template in templates for name in names] + [SOMETHING_ELSE])
    settings = {
        "model_cfg": {
            "embed_dim": EMBEDDING_WIDTH,
            "vision_cfg": VISION,
            "text_cfg": TEXT | {"vocab_size": vocabulary_size(merges)},
        },
        "preprocess_cfg": {
            "size": [SIDE, SIDE],
            "mode": "RGB",
            "mean": list(open_clip.OPENAI_DATASET_MEAN),
            "std": list(open_clip.OPENAI_DATASET_STD),
            "interpolation": "bicubic",
            "resize_mode": "squash",
            "fill_color": 0,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    write_merges(merges, folder / BPE_FILE)
    module = open_clip.CLIP(**settings["model_cfg"])
    set_model_preprocess_cfg(module, settings["preprocess_cfg"])
    tokenizer = open_clip.SimpleTokenizer(str(folder / BPE_FILE), context_length=TEXT["context_length"])
    return ClipModel("embedded", module, tokenizer, torch.device("cpu"), {}), module, tokenizer


def crop_regions(segmenter: Segmenter, scenes: Sequence[Scene], batch_size: int = 16) -> Crops:
    """Crop the regions as the pipeline does: the regions that it finds, and the regions of a perfect clustering.

    Args:
        segmenter: The pipeline, on the CPU.
        scenes: The scenes.
        batch_size: Number of scenes per batch.

    Returns:
        The crops of all regions with a purity of at least `MIN_PURITY`.
    """
    device, config = segmenter.device, segmenter.config
    pixels, contents = [], []
    for start in range(0, len(scenes), batch_size):
        batch = scenes[start : start + batch_size]
        images = [scene.pixels for scene in batch]
        image_batch = ImageBatch.of(images, device)
        segmentation = segmenter.segment(images)
        target_grid = torch.stack([region_grid(scene, config.features.grid_size) for scene in batch])
        target_map, target_regions = extract_regions(target_grid, image_batch, config.regions)
        for region_map, regions in (
            (torch.stack(list(segmentation.region_map)), segmentation.regions),
            (target_map, PendingRegions(target_regions).read()[0]),
        ):
            spans = regions.spans(len(batch))
            crops = region_crops(image_batch, region_map, regions, spans, segmenter.clip, config.regions)
            mean, std = (crops.new_tensor(values)[:, None, None] for values in segmenter.clip.normalisation)
            pixels.append((255 * (crops * std + mean)).round().to(torch.uint8))
            counts = regions.counts(len(batch)).tolist()
            for scene, regions_of_scene, count in zip(batch, region_map.numpy(), counts, strict=True):
                contents += scene.region_contents(regions_of_scene, count)
    pure = [index for index, (_, purity) in enumerate(contents) if purity >= MIN_PURITY]
    captions = {
        caption_format: [format_caption(caption_format, vars(contents[index][0])) for index in pure]
        for caption_format in CAPTION_FORMATS
    }
    return Crops(torch.cat(pixels)[pure], captions)


def format_caption(caption_format: str, attributes: Mapping[str, str]) -> str:
    """Return a caption, without the spaces of empty attributes."""
    return " ".join(caption_format.format_map(attributes).split())


def caption_vocabulary(caption_format: str) -> list[str]:
    """Return all captions of a format and all backgrounds, without duplicates."""
    objects = (
        {"pattern": pattern, "color": color, "shape": shape}
        for (color, shape), pattern in product(SEEN_COMBINATIONS, PATTERNS)
    )
    return list(dict.fromkeys([*(format_caption(caption_format, attributes) for attributes in objects), *BACKGROUNDS]))


def sample_texts(vocabulary: Sequence[str], rng: np.random.Generator) -> tuple[list[str], dict[str, int]]:
    """Sample the texts of a step: some of the captions, each in a random template, and "something else" at the end.

    Returns:
        The texts, and the index of the text of each caption that was not dropped.
    """
    is_kept = rng.random(len(vocabulary)) >= rng.uniform(0, MAX_CAPTION_DROPOUT)
    names = [name for name, keep in zip(vocabulary, is_kept, strict=True) if keep]
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES
    template_indices = rng.choice(len(templates), len(names))
    texts = [templates[index](name) for index, name in zip(template_indices, names, strict=True)]
    return [*texts, SOMETHING_ELSE], {name: index for index, name in enumerate(names)}


def augment(pixels: Tensor, clip: ClipModel, rng: np.random.Generator) -> Tensor:
    """Return normalized crops for the network, each mirrored with a probability of 1/2."""
    mean, std = (torch.tensor(values)[:, None, None] for values in clip.normalisation)
    is_mirrored = torch.from_numpy(rng.random(len(pixels)) < 0.5)[:, None, None, None]
    return (torch.where(is_mirrored, pixels.flip(3), pixels) / 255 - mean) / std
