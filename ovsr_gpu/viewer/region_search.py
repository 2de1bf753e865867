"""Text search in a labelling run: rank its regions by the similarity of their CLIP embeddings to a text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.clip import ClipModel, load_clip
from ovsr_gpu.store.manifest import MANIFEST_FILE
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE

MIN_RESIDUAL_NORM = 0.01
"""Minimum length of a text embedding after the projection in `embed_text`; a shorter one is rounding error."""


@dataclass(frozen=True)
class Hit:
    """A region in the search results.

    Attributes:
        similarity: Cosine of the angle between the embeddings of the region and of the text.
        row: The region in the store, with the columns `ANNOTATION_COLUMNS`.
    """

    similarity: float
    row: Row


def search_regions(store: Store, text_embedding: Tensor, count: int) -> list[Hit]:
    """Return the regions of a store that are most similar to a text, the most similar first.

    Regions of equal similarity keep the order of the store. A region whose embedding has a NaN is never returned. The
    memory depends on `count`, not on the size of the store.

    Args:
        store: The store of a labelling run.
        text_embedding: `[E]` float32 of unit length, from `embed_text`.
        count: Maximum number of regions to return.

    Returns:
        At most `count` regions.

    Raises:
        ValueError: `count` is less than 1, the embeddings have another width than the text's, or the store has no
            regions.
    """
    if count < 1:
        raise ValueError(f"the number of regions to find must be at least 1; got {count}")
    query = text_embedding.cpu().numpy()
    hits: list[Hit] = []
    for batch in store.record_batches([*ANNOTATION_COLUMNS, "embedding"]):
        # Unlike a matrix product, einsum gives equal rows equal results at any position, and starts no threads.
        similarities = np.einsum("ne,e->n", _embeddings(batch, len(query)), query)
        min_similarity = hits[-1].similarity if len(hits) == count else -math.inf
        better = np.flatnonzero(similarities > min_similarity)
        rows = batch.select(ANNOTATION_COLUMNS).take(pa.array(better)).to_pylist()
        new_hits = map(Hit, similarities[better].tolist(), rows)
        hits = sorted([*hits, *new_hits], key=attrgetter("similarity"), reverse=True)[:count]  # a stable sort
    if not hits:
        raise ValueError("the run has no regions to search")
    return hits


def _embeddings(batch: pa.RecordBatch, width: int) -> Array:
    """Return the embeddings of a record batch, `[n, width]` float32."""
    embeddings = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)
    if embeddings.shape[1] != width:
        raise ValueError(
            f"the run's embeddings have {embeddings.shape[1]} dimensions, the text's {width}: they are from different "
            "CLIP models"
        )
    return embeddings.astype(np.float32)


def load_run_clip(run: Path, model: str | None, weights: str | None, device: torch.device) -> ClipModel:
    """Load the CLIP model that a run was made with, according to its manifest.

    Args:
        run: Folder of the run.
        model: Name or path of the model, as in `load_clip`; None for the one in the manifest.
        weights: Its weights, as in `load_clip`; None for those in the manifest.
        device: Where to load the model.

    Returns:
        The CLIP model.

    Raises:
        ValueError: There is no run, or the model is not the one of the run.
        ModelError: The model cannot be loaded.
    """
    try:
        recorded = json.loads((run / MANIFEST_FILE).read_text("utf-8"))["clip"]
        fingerprint = recorded["text_fingerprint"]
        if model is None:
            model, weights = recorded["model"], weights or recorded["weights"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{str(run)!r} cannot be searched: its {MANIFEST_FILE} names no CLIP ({error!r})") from error
    try:
        clip = load_clip(model, weights, device)
    except ModelError as error:
        raise ModelError(
            f"{error}; if the CLIP of {str(run)!r} has moved, pass its new location with --clip and --clip-weights"
        ) from error
    if clip.text_fingerprint != fingerprint:
        raise ValueError(
            f"the run in {str(run)!r} was made with another CLIP than {model!r} with the weights {weights!r}; pass the "
            f"one that its {MANIFEST_FILE} names with --clip and --clip-weights, or label the images again"
        )
    return clip


def embed_text(clip: ClipModel, text: str) -> Tensor:
    """Embed a text without a prompt template, and remove the component along "something else".

    The embeddings of all texts have a common component, and a region near that direction is similar to every text.
    Without the projection such regions would rank first for any text.

    Args:
        clip: The CLIP model of the run.
        text: What to search for.

    Returns:
        `[E]` float32 of unit length, orthogonal to the embedding of "something else".

    Raises:
        ValueError: The text is blank, exceeds CLIP's context length, or has the meaning of "something else".
    """
    if not text.strip():
        raise ValueError("the search text is blank")
    if clip.exceeds_context_length([text]) == [True]:
        raise ValueError(f"the text does not fit the {clip.context_length} tokens that CLIP reads; shorten it")
    embedding, neutral = clip.encode_text([text, SOMETHING_ELSE])
    residual = embedding - embedding @ neutral * neutral
    if residual.norm() < MIN_RESIDUAL_NORM:
        raise ValueError(f"the text {text!r} means the same as {SOMETHING_ELSE!r}; describe what to look for")
    return normalize(residual, dim=0)
