"""What lower precision does to the labels of photographs."""

from __future__ import annotations

import json

import pytest
import torch

from ovsr_gpu import Config, ModelConfig, Segmenter

PICTURES = 8


@pytest.mark.slow
def test_float16_in_clip_leaves_the_labels_as_they_are(assets):
    root = assets / "msrc_v2"
    names = (root / "heldout_100.txt").read_text().split()[:PICTURES]
    files = [root / f"images/{name}.png" for name in names]
    classes = [name for name in json.loads((root / "classes.json").read_text())["classes"] if name != "void"]

    def class_maps(precision: str) -> torch.Tensor:
        segmenter = Segmenter.from_pretrained(
            Config(models=ModelConfig(clip_precision=precision)),
            backbone_weights=assets / "effnet" / "efficientnet_b0_finetuned.pth",
            clip=f"local-dir:{assets / 'clip' / 'effb0_msrc'}",
            device="cpu",
        )
        return torch.cat([one.flatten() for one in segmenter(files, classes).class_map])

    whole, half = class_maps("float32"), class_maps("float16")
    assert (whole == half).double().mean() >= 0.99
    assert len(whole.unique()) > 5
