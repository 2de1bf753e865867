"""Loading of the embedded models, and error messages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip import CLIP

from ovsr_gpu import Config, FeatureConfig, ModelConfig, ModelError, Segmenter
from ovsr_gpu.models.backbone import load_backbone
from ovsr_gpu.models.clip import load_clip
from ovsr_gpu.models.embedded import WEIGHTS_FOLDER
from ovsr_gpu.synthetic.scenes import CLASSES, make_scene

CPU = torch.device("cpu")


def test_files_are_small_and_contain_no_code() -> None:
    files = [file for file in WEIGHTS_FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    assert {file.suffix for file in files} == {".safetensors", ".json", ".gz", ".md"}


def test_backbone_has_the_strides_of_efficientnet_b0() -> None:
    backbone = load_backbone("embedded", CPU)
    assert not backbone.training and not any(weight.requires_grad for weight in backbone.parameters())
    activations, sides = torch.zeros(1, 3, 64, 64), []
    for block in backbone:
        activations = block(activations)
        sides.append(activations.shape[2])
    assert sides == [32, 32, 16, 8, 4, 4]
    assert all(weight.dtype == torch.float32 for weight in backbone.parameters())


def test_clip_is_an_open_clip_model_with_its_own_tokens() -> None:
    clip = load_clip("embedded", None, CPU)
    assert clip.name == "embedded" and type(clip._module) is CLIP
    assert all(weight.dtype == torch.float32 for weight in clip._module.parameters())
    embeddings = clip.encode_text([*CLASSES, "zebra"])
    assert embeddings.norm(dim=1).allclose(torch.ones(len(embeddings)))
    assert not any(clip.exceeds_context_length(["a low resolution photo of a striped purple crescent."]))
    assert clip.exceeds_context_length(["incomprehensibilities" * 3]) == [True]


def test_config_can_name_them() -> None:
    config = Config(models=ModelConfig(backbone_weights="embedded", clip="embedded"))
    prediction = Segmenter.from_pretrained(config, device="cpu")([make_scene(0).pixels], CLASSES)
    assert len(prediction.regions) > 1


def test_each_works_with_another_model(random_backbone: Path, tiny_clip: str) -> None:
    pixels = [make_scene(0).pixels]
    for backbone, clip in ((random_backbone, "embedded"), ("embedded", tiny_clip)):
        segmenter = Segmenter.from_pretrained(backbone_weights=backbone, clip=clip, device="cpu")
        assert len(segmenter(pixels, CLASSES).regions) >= 1


def test_missing_feature_levels_are_rejected() -> None:
    config = Config(features=FeatureConfig(levels=(3, 7)))
    with pytest.raises(ValueError, match=r"features.levels .* 0 to 5; got \(3, 7\)"):
        Segmenter.from_pretrained(config, backbone_weights="embedded", clip="embedded", device="cpu")


def test_other_weights_for_the_embedded_clip_are_rejected(random_backbone: Path) -> None:
    with pytest.raises(ModelError, match="embedded has its own weights"):
        load_clip("embedded", random_backbone, CPU)
