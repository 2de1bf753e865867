"""Classes of a vocabulary that CLIP can hardly tell apart by their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ovsr_gpu.results import ClassTexts
from ovsr_gpu.vocabulary import SOMETHING_ELSE

MIN_LOGIT_GAP = 3.5
"""Difference in logits below which two classes count as confusable. With OpenAI's CLIP ViT-B/16 and many templates, 2
of the 14,535 pairs of COCO-Stuff's 171 classes are closer: "dining table" and "table", "rock" and "stone". With one
template none of VOC's 20 classes are: "bicycle" and "motorbike" are 7 apart.
"""
MAX_DESCRIBED_PAIRS = 5


class ConfusablePair(NamedTuple):
    """The names of two classes, and the difference in logits between their texts."""

    first: str
    second: str
    logit_gap: float


def confusable_pairs(texts: ClassTexts, names: Sequence[str], logit_scale: float) -> list[ConfusablePair]:
    """Return the pairs of classes less than MIN_LOGIT_GAP logits apart, closest first.

    The gap between two texts is logit_scale * (1 - cosine): how much lower the logit of the second text is for a region
    whose embedding equals the first. For classes with several texts the closest texts count.

    Args:
        texts: The texts of the L classes, and of "something else" if it has any.
        names: The L class names.
        logit_scale: Factor of the cosine similarities.

    Returns:
        The pairs with their gaps.
    """
    cosine = (texts.embeddings @ texts.embeddings.mT).double()
    num_rows = texts.num_classes + 1
    max_cosine = cosine.new_full((num_rows, num_rows), -torch.inf)
    slot = texts.class_index[:, None] * num_rows + texts.class_index
    max_cosine.view(-1).scatter_reduce_(0, slot.flatten(), cosine.flatten(), "amax")
    gap = (logit_scale * (1 - max_cosine)).clamp_min(0).cpu()
    all_names = [*names, SOMETHING_ELSE]
    pairs = [
        ConfusablePair(all_names[i], all_names[j], float(gap[i, j]))
        for i, j in ((gap < MIN_LOGIT_GAP).triu(1)).nonzero().tolist()
    ]
    return sorted(pairs, key=lambda pair: pair.logit_gap)


def describe_confusable(pairs: Sequence[ConfusablePair]) -> str:
    """Return a warning for the author of the vocabulary; it names at most MAX_DESCRIBED_PAIRS pairs."""
    described = "; ".join(f"{first!r} and {second!r}" for first, second, _ in pairs[:MAX_DESCRIBED_PAIRS])
    more = f", and {len(pairs) - MAX_DESCRIBED_PAIRS} more" if len(pairs) > MAX_DESCRIBED_PAIRS else ""
    return (
        f"This CLIP can hardly tell apart {described}{more}. "
        "Make such classes synonyms of one class, or give them other prompts"
    )
