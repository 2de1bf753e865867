"""EfficientNet, the network that stage 1 takes its features from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.checkpoints import explained, read_state_dict
from ovsr_gpu.models.downloads import fetch
from ovsr_gpu.models.embedded import BACKBONE_FILE, EMBEDDED, narrow_efficientnet

_LOCAL = "a local file goes in with backbone_weights=PATH or --backbone-weights PATH"


def load_backbone(weights: str | os.PathLike[str], device: torch.device) -> nn.Sequential:
    """The `features` of torchvision's `efficientnet_b0` on `device`, float32, in eval mode, without gradients.

    Their batch normalisations are folded into the convolutions.

    `weights` is a torchvision tag ("IMAGENET1K_V1", "DEFAULT") or the path of a checkpoint, see `read_state_dict`;
    of a checkpoint only the keys `features.*` are looked at, so it may carry any classifier head. "embedded" loads the
    narrow EfficientNet that comes with this package, whose `features` end with block 5.

    Raises ModelError where the weights cannot be found, read or fitted.
    """
    from torchvision.models import efficientnet_b0

    if weights == EMBEDDED:
        features, path = narrow_efficientnet(), BACKBONE_FILE
        state = read_state_dict(path)
    else:
        features = efficientnet_b0().features
        path, state = _read_b0(weights)
    with explained(path, "EfficientNet-B0"):
        # Wrapped, so that an error names the keys as they stand in the file.
        nn.ModuleDict({"features": features}).load_state_dict(
            {key: tensor for key, tensor in state.items() if key.startswith("features.")}
        )
    return _folded(features.eval()).requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def _folded(features: nn.Sequential) -> nn.Sequential:
    """Each batch normalisation, which in eval mode is linear, folded into the convolution before it."""
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
        f"({', '.join(tags)}); {_LOCAL}"
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
        remedy=f"put the file into {path.parent}; {_LOCAL}",
    )
    return path, state
