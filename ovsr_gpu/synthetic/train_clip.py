"""Training of the embedded CLIP: region crops against captions, with "something else" for what no caption names."""

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
from ovsr_gpu.synthetic.schedule import shuffled, warmed_cosine
from ovsr_gpu.synthetic.surfaces import GROUNDS, PATTERNS
from ovsr_gpu.synthetic.train_backbone import region_grid
from ovsr_gpu.vocabulary import SOMETHING_ELSE

STEPS = 6000
BATCH = 64
LEARNING_RATE, WEIGHT_DECAY = 5e-4, 0.05
MIN_PURE = 0.6
"""Fraction of a region that must be of one thing for the region to be learnt from."""
MAX_LEFT_OUT = 0.5
"""A step leaves out each caption with a probability drawn from 0 to this; regions without theirs are something else."""

CAPTIONS = {"{shape}": 0.4, "{color} {shape}": 0.35, "{pattern} {shape}": 0.1, "{pattern} {color} {shape}": 0.15}
"""What a step calls the objects, and how often; a ground goes by its name."""

VISION = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
"""CLIP's residual network: on so few crops it learns shapes many times faster than a vision transformer."""
TEXT = {"context_length": 32, "width": 128, "heads": 4, "layers": 2}
EMBEDDING_WIDTH = 128
SIDE = VISION["image_size"]


@dataclass(frozen=True)
class Crops:
    """pixels: `[N, 3, S, S]` uint8. names: what is on each, by caption form."""

    pixels: Tensor
    names: dict[str, list[str]]


def train_clip(
    backbone: nn.Sequential, scenes: Sequence[Scene], folder: Path, seed: int, report: Callable[[str], None]
) -> nn.Module:
    """A small CLIP that knows the scenes' regions by name; its configuration and merges are written to `folder`."""
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    clip, module, tokenizer = fresh_clip(folder)
    config = Config(regions=RegionConfig(boundaries="grid"))  # as the shipped weights were trained
    crops = cut_regions(Segmenter(Pipeline(backbone, clip, config, torch.device("cpu"))), scenes)
    report(f"CLIP: {len(crops.pixels)} regions of {len(scenes)} scenes")

    module.requires_grad_(True).train()
    decayed = [weight for weight in module.parameters() if weight.ndim >= 2]
    others = [weight for weight in module.parameters() if weight.ndim < 2]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_cosine(step, STEPS))
    vocabularies = {form: caption_vocabulary(form) for form in CAPTIONS}
    losses, hits = [], []
    for step, picked in zip(range(1, STEPS + 1), shuffled(len(crops.pixels), BATCH, draws), strict=False):
        form = draws.choice(list(CAPTIONS), p=list(CAPTIONS.values()))
        texts, place = draw_captions(vocabularies[form], draws)
        target = torch.tensor([place.get(crops.names[form][index], len(texts) - 1) for index in picked])
        embeddings = module.encode_image(augmented(crops.pixels[picked], clip, draws), normalize=True)
        captions = module.encode_text(tokenizer(texts), normalize=True)
        logits = module.logit_scale.exp() * embeddings @ captions.mT
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            module.logit_scale.clamp_(0, np.log(100))
        losses.append(loss.item())
        hits.append((logits.argmax(1) == target).float().mean().item())
        if step % 100 == 0 or step == STEPS:
            report(f"CLIP: step {step} of {STEPS}, loss {np.mean(losses):.3f}, right {np.mean(hits):.1%}")
            losses, hits = [], []
    return module.eval().requires_grad_(False)


def fresh_clip(folder: Path) -> tuple[ClipModel, Any, Any]:
    """The CLIP with random weights, its module and its tokenizer; all but the weights is written to `folder`."""
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES
    names = [name for form in CAPTIONS for name in caption_vocabulary(form)]
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


def cut_regions(segmenter: Segmenter, scenes: Sequence[Scene], batch: int = 16) -> Crops:
    """Crops as the pipeline makes them: of the regions that it finds, and of those that it would find at its best."""
    device, config = segmenter.device, segmenter.config
    pixels, truths = [], []
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        images = [scene.pixels for scene in part]
        batch_of_images = ImageBatch.of(images, device)
        found = segmenter.segment(images)
        true_grid = torch.stack([region_grid(scene, config.features.grid_size) for scene in part])
        true_map, true_regions = extract_regions(true_grid, batch_of_images, config.regions)
        for region_map, regions in (
            (torch.stack(list(found.region_map)), found.regions),
            (true_map, PendingRegions(true_regions).read()[0]),
        ):
            spans = regions.spans(len(part))
            crops = region_crops(batch_of_images, region_map, regions, spans, segmenter.clip, config.regions)
            mean, std = (crops.new_tensor(values)[:, None, None] for values in segmenter.clip.normalisation)
            pixels.append((255 * (crops * std + mean)).round().to(torch.uint8))
            counts = regions.counts(len(part)).tolist()
            for scene, numbers, count in zip(part, region_map.numpy(), counts, strict=True):
                truths += scene.contents(numbers, count)
    pure = [index for index, (_, fraction) in enumerate(truths) if fraction >= MIN_PURE]
    names = {form: [caption(form, vars(truths[index][0])) for index in pure] for form in CAPTIONS}
    return Crops(torch.cat(pixels)[pure], names)


def caption(form: str, words: Mapping[str, str]) -> str:
    return " ".join(form.format_map(words).split())


def caption_vocabulary(form: str) -> list[str]:
    """All that a step with captions of this form can name, without repetition."""
    objects = (
        {"pattern": pattern, "color": color, "shape": shape}
        for (color, shape), pattern in product(SEEN_COMBINATIONS, PATTERNS)
    )
    return list(dict.fromkeys([*(caption(form, words) for words in objects), *GROUNDS]))


def draw_captions(vocabulary: Sequence[str], draws: np.random.Generator) -> tuple[list[str], dict[str, int]]:
    """Texts of a step, each name in some template and "something else" at the end, and the place of each name."""
    kept = draws.random(len(vocabulary)) >= draws.uniform(0, MAX_LEFT_OUT)
    names = [name for name, keep in zip(vocabulary, kept, strict=True) if keep]
    templates = draws.choice(len(open_clip.OPENAI_IMAGENET_TEMPLATES), len(names))
    texts = [open_clip.OPENAI_IMAGENET_TEMPLATES[one](name) for one, name in zip(templates, names, strict=True)]
    return [*texts, SOMETHING_ELSE], {name: place for place, name in enumerate(names)}


def augmented(pixels: Tensor, clip: ClipModel, draws: np.random.Generator) -> Tensor:
    """The crops as the network takes them, half of them mirrored."""
    mean, std = (torch.tensor(values)[:, None, None] for values in clip.normalisation)
    mirrored = torch.from_numpy(draws.random(len(pixels)) < 0.5)[:, None, None, None]
    return (torch.where(mirrored, pixels.flip(3), pixels) / 255 - mean) / std
