"""Classes of a vocabulary that CLIP cannot tell apart by their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ovsr_gpu.results import ClassTexts
from ovsr_gpu.vocabulary import SOMETHING_ELSE

MIN_APART = 3.5
"""Logits. By OpenAI's CLIP ViT-B/16 2 of the 14,535 pairs of COCO-Stuff's 171 classes are closer with many templates,
"dining table" and "table", "rock" and "stone"; none of VOC's 20 are, with one: "bicycle" and "motorbike" lie 7 apart.
"""
SHOWN = 5


class ConfusablePair(NamedTuple):
    """Two classes by their names, and how many logits their texts are apart."""

    first: str
    second: str
    apart: float


def confusable_pairs(texts: ClassTexts, names: Sequence[str], logit_scale: float) -> list[ConfusablePair]:
    """The pairs of classes less than MIN_APART logits apart, the closest first.

    Two texts are logit_scale x (1 - their cosine) apart: so much less a region whose embedding is the one text gets for
    the other. Of classes with several texts the closest ones count. names: of the L classes; "something else" comes
    after them.
    """
    cosine = (texts.embeddings @ texts.embeddings.mT).double()
    classes = texts.classes + 1
    closest = cosine.new_full((classes, classes), -torch.inf)
    pair = texts.class_index[:, None] * classes + texts.class_index
    closest.view(-1).scatter_reduce_(0, pair.flatten(), cosine.flatten(), "amax")
    apart = (logit_scale * (1 - closest)).clamp_min(0).cpu()
    called = [*names, SOMETHING_ELSE]
    close = [
        ConfusablePair(called[i], called[j], float(apart[i, j]))
        for i, j in ((apart < MIN_APART).triu(1)).nonzero().tolist()
    ]
    return sorted(close, key=lambda pair: pair.apart)


def describe_confusable(pairs: Sequence[ConfusablePair]) -> str:
    """One sentence for whoever chose the vocabulary."""
    told = "; ".join(f"{first!r} and {second!r}" for first, second, _ in pairs[:SHOWN])
    more = f", and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return (
        f"This CLIP can hardly tell apart {told}{more}. Make such classes synonyms of one, or give them other prompts"
    )
