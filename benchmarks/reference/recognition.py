"""Text and image embeddings, and the class of each region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.models.clip import ClipModel
from reference.arrays import Array


def embed_texts(clip: ClipModel, classes: Sequence[Sequence[str]], config: RecognitionConfig) -> Array:
    """Return unit embeddings `[L+1, E]` of classes given as (name, synonym, ...); the last one is "something else"."""
    templates = text_templates(config)
    prompts = [[template.replace("{}", name) for name in names for template in templates] for names in classes]
    prompts.append(list(config.something_else))
    return unit(np.stack([unit(clip.encode_text(texts).cpu().numpy()).mean(axis=0) for texts in prompts]))


def text_templates(config: RecognitionConfig) -> Sequence[str]:
    if config.templates != "imagenet":
        return config.templates
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


def embed_images(clip: ClipModel, crops: Array) -> Array:
    """Return unit embeddings `[n, E]` of crops `[n, 3, S, S]`."""
    return unit(clip.encode_image(torch.from_numpy(crops).to(clip.device)).cpu().numpy())


def classify_regions(
    embeddings: Array, texts: Array, logit_scale: float, config: RecognitionConfig
) -> tuple[Array, Array]:
    """Return the class `[n]` and the probabilities `[n, L+1]` of the regions of one image."""
    if config.shared_rank is not None:
        embeddings, texts = shared_space(embeddings, texts, config)
    logits = logit_scale * embeddings @ texts.T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    class_index = probabilities.argmax(axis=1)
    if config.threshold is not None:
        class_index[probabilities.max(axis=1) < config.threshold] = len(texts) - 1
    return class_index, probabilities


def shared_space(embeddings: Array, texts: Array, config: RecognitionConfig) -> tuple[Array, Array]:
    """Project regions and texts of one image on the leading right singular vectors of both."""
    rows = np.concatenate([embeddings, texts])
    if config.shared_centered:
        rows = rows - rows.mean(axis=0)
    directions = np.linalg.svd(rows, full_matrices=False).Vh[: config.shared_rank]
    projected = unit(rows @ directions.T)
    return projected[: len(embeddings)], projected[len(embeddings) :]


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
