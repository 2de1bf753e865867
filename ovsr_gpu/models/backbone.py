"""EfficientNet-B0, the network that stage 1 takes its features from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.checkpoints import explained, read_state_dict
from ovsr_gpu.models.downloads import fetch

_LOCAL = "a local file goes in with backbone_weights=PATH or --backbone-weights PATH"


def load_backbone(weights: str | os.PathLike[str], device: torch.device) -> nn.Sequential:
    """The `features` of torchvision's `efficientnet_b0` on `device`, float32, in eval mode, without gradients.

    `weights` is a torchvision tag ("IMAGENET1K_V1", "DEFAULT") or the path of a checkpoint, see `read_state_dict`;
    of a checkpoint only the keys `features.*` are looked at, so it may carry any classifier head.

    Raises ModelError where the weights cannot be found, read or fitted.
    """
    from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

    if weights == "embedded":
        raise ModelError(f"this release carries no embedded EfficientNet-B0; give a tag (IMAGENET1K_V1); {_LOCAL}")
    tags = EfficientNet_B0_Weights.__members__
    if isinstance(weights, str) and weights in tags:
        path, state = _read_tag(tags[weights])
    elif Path(weights).is_file():
        path, state = Path(weights), read_state_dict(weights)
    else:
        raise ModelError(
            f"backbone weights {os.fspath(weights)!r} are neither a file nor a torchvision tag of EfficientNet-B0 "
            f"({', '.join(tags)}); {_LOCAL}"
        )
    features = efficientnet_b0().features
    with explained(path, "EfficientNet-B0"):
        # Wrapped, so that an error names the keys as they stand in the file.
        nn.ModuleDict({"features": features}).load_state_dict(
            {key: tensor for key, tensor in state.items() if key.startswith("features.")}
        )
    return features.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


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
