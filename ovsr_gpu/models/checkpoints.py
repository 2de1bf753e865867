"""Checkpoint files, read without ever running what is in them."""

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

_NESTS = ("state_dict", "model_state_dict", "model")
_EXPECTED = "expected a .safetensors file or what torch.save(model.state_dict(), PATH) writes"


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, by name, on the CPU.

    `path` is a .safetensors file, or one that `torch.load(weights_only=True)` reads: a state dict, plain or under
    `state_dict`, `model_state_dict` or `model`. A `module.` in front of the names is dropped.

    Raises ModelError where the file is missing, damaged, a TorchScript archive, or holds code or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no weights file at {path}; {_EXPECTED}")
    checkpoint: Any
    with explained(path):
        if path.suffix == ".safetensors":
            checkpoint = load_file(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(checkpoint, dict):
        nested = [checkpoint[key] for key in _NESTS if isinstance(checkpoint.get(key), dict)]
        state = nested[0] if nested else checkpoint
        tensors = {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"{path} holds no state dict; {_EXPECTED}")


@contextmanager
def explained(path: Path, architecture: str = "the model") -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into, or fitted to, `architecture` into one ModelError."""
    try:
        yield
    except Exception as error:
        raise ModelError(_explanation(path, architecture, str(error) or type(error).__name__)) from error


def _explanation(path: Path, architecture: str, reason: str) -> str:
    if "TorchScript" in reason:
        return (
            f"{path} is a TorchScript archive, which holds code beside its weights and is not loaded; "
            "save its state_dict() as .safetensors, or take a checkpoint of the same model in that format"
        )
    if found := re.search(r"GLOBAL (\S+)", reason):
        return (
            f"{path} holds code or Python objects ({found[1]}) beside its tensors and is not loaded; "
            "save the state dict alone, best as .safetensors"
        )
    if "loading state_dict" in reason:
        _, _, mismatch = reason.partition(":")
        return f"{path} does not fit {architecture}; give a checkpoint of that architecture: " + textwrap.shorten(
            mismatch, 400, placeholder=" ..."
        )
    return f"{path} cannot be read ({_brief(reason)}); the file may be damaged or unfinished: {_EXPECTED}"


def _brief(reason: str) -> str:
    return textwrap.shorten(reason, 160, placeholder=" ...")


def update_digest(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Feed names, shapes, dtypes and values of tensors, in the order of their names, to one of hashlib's digests."""
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
