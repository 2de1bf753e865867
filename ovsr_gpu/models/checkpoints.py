"""Read checkpoint files without executing any code in them."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ovsr_gpu.errors import ModelError

_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
_EXPECTED = "expected a .safetensors file or a file written by torch.save(model.state_dict(), PATH)"


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint file.

    Args:
        path: A .safetensors file, or a file that `torch.load(weights_only=True)` reads: a state dict, or a dict that
            holds one under `state_dict`, `model_state_dict` or `model`.

    Returns:
        The tensors by name, on the CPU; the prefix `module.` is removed from the names.

    Raises:
        ModelError: The file is missing, damaged or a TorchScript archive, or it holds code or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no weights file at {path}; {_EXPECTED}")
    checkpoint: Any
    with checkpoint_errors(path):
        if path.suffix == ".safetensors":
            checkpoint = load_file(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(checkpoint, dict):
        nested = [checkpoint[key] for key in _STATE_DICT_KEYS if isinstance(checkpoint.get(key), dict)]
        state = nested[0] if nested else checkpoint
        tensors = {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"{path} holds no state dict; {_EXPECTED}")


@contextmanager
def checkpoint_errors(path: Path, architecture: str = "the model") -> Iterator[None]:
    """Convert any error of the block, which reads a checkpoint or loads it into a model, to a ModelError.

    Args:
        path: The checkpoint, for messages.
        architecture: Name of the model, for messages.

    Raises:
        ModelError: The block raises an error; the message is one line and says what to do.
    """
    try:
        yield
    except Exception as error:
        raise ModelError(_explanation(path, architecture, str(error) or type(error).__name__)) from error


def _explanation(path: Path, architecture: str, reason: str) -> str:
    if "TorchScript" in reason:
        return (
            f"{path} is a TorchScript archive, which holds code in addition to its weights and is not loaded; "
            "save its state_dict() as .safetensors, or use a checkpoint of the same model in that format"
        )
    if found := re.search(r"GLOBAL (\S+)", reason):
        return (
            f"{path} holds code or Python objects ({found[1]}) in addition to its tensors and is not loaded; "
            "save only the state dict, preferably as .safetensors"
        )
    if "loading state_dict" in reason:
        _, _, mismatch = reason.partition(":")
        return f"{path} does not fit {architecture}; use a checkpoint of that architecture: " + textwrap.shorten(
            mismatch, 400, placeholder=" ..."
        )
    return f"{path} cannot be read ({_brief(reason)}); the file may be damaged or incomplete: {_EXPECTED}"


def _brief(reason: str) -> str:
    return textwrap.shorten(reason, 160, placeholder=" ...")


def update_digest(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Update a hashlib digest with names, shapes, dtypes and values of tensors, sorted by name."""
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
