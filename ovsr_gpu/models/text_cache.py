"""Text embeddings on disk: one small file per class, so that only the prompts of new classes are encoded."""

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

SCHEMA_VERSION = 1
"""Must increase whenever the computation of an embedding from its prompts changes."""

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of the files: next to that of torch.hub, so TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()).parent / "ovsr_gpu" / "text"


def cache_key(clip: ClipModel, prompts: Sequence[str]) -> str:
    """Return the key of a text embedding: a SHA-256 of everything that it depends on.

    Args:
        clip: The CLIP model.
        prompts: Prompts of the class, in order.

    Returns:
        64 hexadecimal digits.
    """
    parts = [SCHEMA_VERSION, clip.text_fingerprint, list(prompts), version("open_clip_torch"), torch.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load(key: str) -> Tensor | None:
    """Return the unit vector `[E]` float32 stored under a key; None if it is absent or its file is damaged."""
    try:
        embedding = safetensors.load(_file(key).read_bytes())["embedding"]
    except (OSError, SafetensorError, KeyError):
        return None
    is_intact = embedding.dtype == torch.float32 and embedding.ndim == 1 and abs(embedding.norm() - 1) < 1e-4
    return embedding if is_intact else None


def store(key: str, embedding: Tensor) -> None:
    """Store a unit vector `[E]` float32 under a key; on failure log one warning per process and continue."""
    path = _file(key)
    temporary = path.with_suffix(f".{uuid4().hex}.part")  # other processes see the complete file or none
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(safetensors.save({"embedding": embedding.cpu().contiguous()}))
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        _warn_once(f"text embeddings are not cached, because {path.parent} cannot be written: {error.strerror}")


def _file(key: str) -> Path:
    return cache_folder() / f"{key}.safetensors"


@cache
def _warn_once(message: str) -> None:
    _logger.warning(message)
