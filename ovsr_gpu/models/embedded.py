"""Paths of the embedded weights, and the architecture of the embedded backbone."""

from __future__ import annotations

from pathlib import Path

from torch import nn

EMBEDDED = "embedded"
"""The name that selects these models instead of a pretrained tag or a path."""

NOTICE = (
    "The embedded models are trained on a small synthetic world of shapes and backgrounds; "
    "they are not for photographs."
)

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
BACKBONE_FILE = WEIGHTS_FOLDER / "backbone.safetensors"
CLIP_FOLDER = WEIGHTS_FOLDER / "clip"

_BLOCKS = (
    # expansion, kernel, stride, channels in, channels out, layers
    (1, 3, 1, 16, 16, 1),
    (3, 3, 2, 16, 24, 1),
    (3, 5, 2, 24, 40, 2),
    (4, 3, 2, 40, 56, 2),
    (4, 5, 1, 56, 80, 2),
)


def narrow_efficientnet() -> nn.Sequential:
    """Return the `features` of a narrow EfficientNet with random weights.

    Blocks 0 to 5 have the strides of those of EfficientNet-B0; there are no later blocks.
    """
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    blocks = [MBConvConfig(*block) for block in _BLOCKS]
    return EfficientNet(blocks, dropout=0.0, stochastic_depth_prob=0.0).features[: len(blocks) + 1]
