"""Text embeddings on disk: one small file a class, so that a new class costs only its own prompts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from ovsr_gpu.models.clip import ClipModel

SCHEMA = 1
"""To be raised whenever the way an embedding is made of its prompts changes."""

_logger = logging.getLogger(__name__)


def folder() -> Path:
    """Where the files lie: beside torch.hub's own folder, so TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()).parent / "ovsr_gpu" / "text"


def key(clip: ClipModel, prompts: Sequence[str]) -> str:
    """The name under which the embedding of `prompts` by `clip` is kept: a SHA-256 over all it depends on."""
    parts = [SCHEMA, clip.text_fingerprint, list(prompts), version("open_clip_torch"), torch.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load(name: str) -> Tensor | None:
    """The unit vector `[E]` float32 kept under `name`; None where there is none or its file is damaged."""
    try:
        embedding = safetensors.load(_file(name).read_bytes())["embedding"]
    except (OSError, SafetensorError, KeyError):
        return None
    intact = embedding.dtype == torch.float32 and embedding.ndim == 1 and abs(embedding.norm() - 1) < 1e-4
    return embedding if intact else None


def store(name: str, embedding: Tensor) -> None:
    """Keep the unit vector `embedding` under `name`; where that fails, the log says so once and the run goes on."""
    path = _file(name)
    part = path.with_suffix(f".{uuid4().hex}.part")  # so that other processes see the whole file or none
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(safetensors.save({"embedding": embedding.cpu().contiguous()}))
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        _warn_once(f"text embeddings are not kept for the next run, {path.parent} cannot be written: {error.strerror}")


def _file(name: str) -> Path:
    return folder() / f"{name}.safetensors"


@cache
def _warn_once(message: str) -> None:
    _logger.warning(message)
