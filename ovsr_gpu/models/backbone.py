"""EfficientNet-B0, the backbone that computes the features of stage 1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.checkpoints import checkpoint_errors, read_state_dict
from ovsr_gpu.models.downloads import fetch
from ovsr_gpu.models.embedded import BACKBONE_FILE, EMBEDDED, narrow_efficientnet

_LOCAL_HINT = "to use a local file, pass backbone_weights=PATH or --backbone-weights PATH"


def load_backbone(weights: str | os.PathLike[str], device: torch.device) -> nn.Sequential:
    """Load the `features` of torchvision's `efficientnet_b0`.

    The module is in eval mode, without gradients, in float32 and channels_last; each batch normalization is folded into
    the convolution before it.

    Args:
        weights: A torchvision tag ("IMAGENET1K_V1", "DEFAULT"), or the path of a checkpoint, see `read_state_dict`.
            Only the keys `features.*` of a checkpoint are used, so it may contain any classifier head. "embedded" loads
            the narrow EfficientNet of this package, whose `features` end with block 5.
        device: Device of the module.

    Returns:
        The features as a sequence of blocks.

    Raises:
        ModelError: The weights cannot be found or read, or do not fit the architecture.
    """
    from torchvision.models import efficientnet_b0

    if weights == EMBEDDED:
        features, path = narrow_efficientnet(), BACKBONE_FILE
        state = read_state_dict(path)
    else:
        features = efficientnet_b0().features
        path, state = _read_b0(weights)
    with checkpoint_errors(path, "EfficientNet-B0"):
        # The wrapper makes errors name the keys as they are in the file.
        nn.ModuleDict({"features": features}).load_state_dict(
            {key: tensor for key, tensor in state.items() if key.startswith("features.")}
        )
    return _folded(features.eval()).requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def _folded(features: nn.Sequential) -> nn.Sequential:
    """Fold each batch normalization, which is linear in eval mode, into the convolution before it."""
    from torchvision.ops import Conv2dNormActivation

    for module in features.modules():
        if isinstance(module, Conv2dNormActivation):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
    return features


def _read_b0(weights: str | os.PathLike[str]) -> tuple[Path, dict[str, Tensor]]:
    from torchvision.models import EfficientNet_B0_Weights

    tags = EfficientNet_B0_Weights.__members__
    if isinstance(weights, str) and weights in tags:
        return _read_tag(tags[weights])
    if Path(weights).is_file():
        return Path(weights), read_state_dict(weights)
    raise ModelError(
        f"backbone weights {os.fspath(weights)!r} are neither a file nor a torchvision tag of EfficientNet-B0 "
        f"({', '.join(tags)}); {_LOCAL_HINT}"
    )


def _read_tag(tag: Any) -> tuple[Path, dict[str, Tensor]]:
    url: str = tag.url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path, read_state_dict(path)
    state = fetch(
        lambda: tag.get_state_dict(check_hash=True, weights_only=True),
        missing=path.name,
        url=url,
        remedy=f"put the file into {path.parent}; {_LOCAL_HINT}",
    )
    return path, state
