"""Dense features of CLIP's image towers, compared with plain NumPy and with the towers' own pooling."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.dense_tower import dense_tower

TEXT = {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 48, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}


def random_clip(**vision: Any) -> open_clip.CLIP:
    """Return a CLIP with random weights, including biases and scales, which open_clip initializes to constants."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        module = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=TEXT).eval()
        for weight in module.visual.parameters():
            if weight.ndim == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    return module.requires_grad_(False)


def tower_of(module: open_clip.CLIP):
    return dense_tower(SimpleNamespace(name="random", image_tower=module.visual))


def images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))


class PlainTransformer:
    """open_clip's vision transformer with ClearCLIP's last block, in float64, one image and token at a time."""

    def __init__(self, tower: torch.nn.Module, heads: int, patch: int, late_norm: bool) -> None:
        self.weights = {name: value.double().numpy() for name, value in tower.state_dict().items()}
        self.heads, self.patch, self.late_norm = heads, patch, late_norm

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, block: str, x: np.ndarray, to_queries: bool = False) -> np.ndarray:
        x = self.norm(f"{block}.ln_1", x)
        w, b = self.weights[f"{block}.attn.in_proj_weight"], self.weights[f"{block}.attn.in_proj_bias"]
        query, key, value = np.split(x @ w.T + b, 3, axis=1)
        key = query if to_queries else key
        width = x.shape[1] // self.heads
        mixed = np.zeros_like(x)
        for head in range(self.heads):
            part = slice(head * width, (head + 1) * width)
            for token in range(len(x)):
                scores = np.array([query[token, part] @ other for other in key[:, part]]) / math.sqrt(width)
                fraction = np.exp(scores - scores.max())
                mixed[token, part] = (fraction / fraction.sum()) @ value[:, part]
        out = mixed @ self.weights[f"{block}.attn.out_proj.weight"].T + self.weights[f"{block}.attn.out_proj.bias"]
        return out * self.weights.get(f"{block}.ls_1.gamma", 1.0)

    def mlp(self, block: str, x: np.ndarray) -> np.ndarray:
        x = self.norm(f"{block}.ln_2", x)
        x = x @ self.weights[f"{block}.mlp.c_fc.weight"].T + self.weights[f"{block}.mlp.c_fc.bias"]
        x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        out = x @ self.weights[f"{block}.mlp.c_proj.weight"].T + self.weights[f"{block}.mlp.c_proj.bias"]
        return out * self.weights.get(f"{block}.ls_2.gamma", 1.0)

    def block(self, number: int, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(f"transformer.resblocks.{number}", x)
        return x + self.mlp(f"transformer.resblocks.{number}", x)

    def tokens(self, image: np.ndarray) -> np.ndarray:
        """Return the input of the last of two blocks, `[1 + P, C]`, for an image `[3, S, S]`."""
        patches = [
            np.einsum("cyx,kcyx->k", image[:, y : y + self.patch, x : x + self.patch], self.weights["conv1.weight"])
            for y in range(0, image.shape[1], self.patch)
            for x in range(0, image.shape[2], self.patch)
        ]
        x = np.stack([self.weights["class_embedding"], *patches]) + self.weights["positional_embedding"]
        return self.block(0, self.norm("ln_pre", x))

    def positions(self, image: np.ndarray) -> np.ndarray:
        """Return the features `[P, C]` of an image `[3, S, S]`."""
        x = self.attention("transformer.resblocks.1", self.tokens(image), to_queries=True)[1:]
        return x if self.late_norm else self.norm("ln_post", x)

    def head(self, pooled: np.ndarray) -> np.ndarray:
        return (self.norm("ln_post", pooled) if self.late_norm else pooled) @ self.weights["proj"]


def test_plain_numpy_with_the_standard_last_block_equals_the_tower():
    module = random_clip(**VIT)
    plain = PlainTransformer(module.visual, heads=2, patch=16, late_norm=False)
    expected = [
        plain.norm("ln_post", plain.block(1, plain.tokens(image))[0]) @ plain.weights["proj"]
        for image in images(48).double().numpy()
    ]
    np.testing.assert_allclose(module.encode_image(images(48)).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{}, {"ls_init_value": 0.3}, {"pool_type": "avg", "final_ln_after_pool": True}])
def test_transformer_against_plain_numpy(change):
    module = random_clip(**VIT, **change)
    tower = tower_of(module)
    plain = PlainTransformer(module.visual, heads=2, patch=16, late_norm="final_ln_after_pool" in change)
    features = tower.features(images(48))
    assert features.shape == (2, 64, 3, 3)
    expected = np.stack([plain.positions(image) for image in images(48).double().numpy()])  # [B, P, C]
    np.testing.assert_allclose(features.flatten(2).mT.numpy(), expected, rtol=1e-4, atol=1e-5)
    pooled = expected[:, [0, 4, 5]].mean(1)
    actual = tower.head(torch.tensor(pooled).float()).numpy()
    np.testing.assert_allclose(actual, plain.head(pooled), rtol=1e-4, atol=1e-5)


def small_resnet() -> open_clip.CLIP:
    module = random_clip(layers=[1, 1, 1, 1], width=8, head_width=32, image_size=96)
    for name, weight in module.visual.named_parameters():
        if name.endswith("bn3.weight"):
            weight.copy_(torch.linspace(0.5, 1.5, len(weight)))  # open_clip's zeros would disable the blocks
    return module


def test_resnet_uses_the_value_projection():
    module = small_resnet()
    visual, tower = module.visual, tower_of(module)
    x = visual.stem(images(96))
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    features = tower.features(images(96))
    assert features.shape == (2, 256, 3, 3)
    pool = {name: value.double().numpy() for name, value in visual.attnpool.state_dict().items()}
    for row, column in [(0, 0), (1, 2), (2, 1)]:
        position = pool["positional_embedding"][1 + 3 * row + column]
        value = (x[:, :, row, column].double().numpy() + position) @ pool["v_proj.weight"].T + pool["v_proj.bias"]
        expected = value @ pool["c_proj.weight"].T + pool["c_proj.bias"]
        np.testing.assert_allclose(tower.head(features[:, :, row, column]).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_resnet_with_uniform_attention_equals_its_own_embedding():
    module = small_resnet()
    pool = module.visual.attnpool
    pool.k_proj.weight.zero_()
    pool.positional_embedding[0] = pool.positional_embedding[1:].mean(0)
    tower = tower_of(module)
    torch.testing.assert_close(
        tower.head(tower.features(images(96)).mean((2, 3))), module.encode_image(images(96)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "vision",
    [
        {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear"},
        {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "mlp"},
        {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": ""},
        {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"},
    ],
    ids=lambda vision: f"{vision['timm_model_name']}-{vision['timm_proj'] or 'classifier'}",
)
def test_average_pooling_towers_give_their_own_embedding_for_the_whole_image(vision):
    module = random_clip(image_size=96, **vision)
    tower = tower_of(module)
    features = tower.features(images(96))
    assert features.shape[2:] == (3, 3)
    actual = normalize(tower.head(features.mean((2, 3))), dim=1)
    torch.testing.assert_close(actual, module.encode_image(images(96), normalize=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("vision", "kind"),
    [
        ({**VIT, "attentional_pool": True}, "VisionTransformer"),
        ({**VIT, "block_type": "custom"}, "VisionTransformer"),
        ({"timm_model_name": "test_vit", "timm_pool": "avg", "image_size": 160}, "VisionTransformer"),
        ({"timm_model_name": "test_efficientnet", "timm_pool": "max", "image_size": 96}, "EfficientNet"),
        ({"timm_model_name": "resnet18", "timm_pool": "rot_attn", "timm_proj": "", "image_size": 96}, "ResNet"),
        ({"timm_model_name": "swin_tiny_patch4_window7_224", "timm_pool": "avg", "image_size": 224}, "SwinTransformer"),
    ],
)
def test_other_towers_are_rejected(vision, kind):
    module = random_clip(**vision)
    with pytest.raises(ModelError, match=rf"CLIP 'random' \({kind}\).*use regions.encoder 'crop'"):
        tower_of(module)
