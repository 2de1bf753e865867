"""What lower precision does to the labels of photographs."""

from __future__ import annotations

import json

import pytest
import torch

from ovsr_gpu import Config, LabelledRegions, ModelConfig, Segmenter

IMAGES, LEAD = 8, 0.05
"""LEAD: by how much a class must lead for float16 not to touch it; its probabilities are 0.02 off at most."""


@pytest.mark.slow
def test_float16_in_clip_changes_no_label_but_where_two_classes_are_as_good(assets):
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

    whole, half = regions("float32"), regions("float16")
    assert torch.equal(whole.boxes, half.boxes)
    assert (whole.probabilities - half.probabilities).abs().max() < LEAD / 2
    best, second = whole.probabilities.topk(2, dim=1).values.unbind(1)
    clear = best - second > LEAD
    assert torch.equal(whole.class_index[clear], half.class_index[clear])
    assert whole.areas[clear].sum() > 0.85 * whole.areas.sum() and len(whole.class_index.unique()) > 5
