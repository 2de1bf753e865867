"""Effects of lower precision on the labels of photographs."""

from __future__ import annotations

import json

import pytest
import torch

from ovsr_gpu import Config, LabelledRegions, ModelConfig, Segmenter

IMAGES, LEAD = 8, 0.05
"""LEAD: difference of probabilities above which float16 must not change the class; its error is at most 0.02."""


@pytest.mark.slow
def test_float16_in_clip_changes_only_labels_of_similar_probability(assets):
    root = assets / "msrc_v2"
    names = (root / "heldout_100.txt").read_text().split()[:IMAGES]
    files = [root / f"images/{name}.png" for name in names]
    classes = [name for name in json.loads((root / "classes.json").read_text())["classes"] if name != "void"]

    def regions(precision: str) -> LabelledRegions:
        segmenter = Segmenter.from_pretrained(
            Config(models=ModelConfig(clip_precision=precision)),
            backbone_weights=assets / "effnet" / "efficientnet_b0_finetuned.pth",
            clip=f"local-dir:{assets / 'clip' / 'effb0_msrc'}",
            device="cpu",
        )
        return segmenter(files, classes).regions

    full, half = regions("float32"), regions("float16")
    assert torch.equal(full.boxes, half.boxes)
    assert (full.probabilities - half.probabilities).abs().max() < LEAD / 2
    best, second = full.probabilities.topk(2, dim=1).values.unbind(1)
    clear = best - second > LEAD
    assert torch.equal(full.class_index[clear], half.class_index[clear])
    assert full.areas[clear].sum() > 0.85 * full.areas.sum() and len(full.class_index.unique()) > 5
