"""Search a labelling run by text: its regions in the order of how alike CLIP finds them and a text."""

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
from ovsr_gpu.store.manifest import FILE
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.store import ANNOTATION, Row, Store
from ovsr_gpu.vocabulary import SOMETHING_ELSE

MIN_MEANING = 0.01
"""The length of what is left of a text's embedding without that of "something else"; less is rounding."""


@dataclass(frozen=True)
class Hit:
    """A region that was found.

    similarity: the cosine between its embedding and the text's. row: what the store says of it, by `ANNOTATION`.
    """

    similarity: float
    row: Row


def best_regions(store: Store, text: Tensor, count: int) -> list[Hit]:
    """The `count` regions of a store most like a text, or all where it has fewer; the most similar first.

    text: `[E]` float32 of unit length, see `embed_text`. Regions just as similar come in the order of the store; one
    whose embedding is not a number is never found. How much memory it takes depends on `count`, not on the store.

    Raises ValueError where `count` is less than 1, where the embeddings are not of the text's width, and where the
    store has no regions.
    """
    if count < 1:
        raise ValueError(f"the number of regions to find must be at least 1; got {count}")
    direction = text.cpu().numpy()
    hits: list[Hit] = []
    for batch in store.batches([*ANNOTATION, "embedding"]):
        # Unlike in a matrix product equal rows tie wherever they stand, and no threads wait for each other.
        similarities = np.einsum("ne,e->n", _embeddings(batch, len(direction)), direction)
        least = hits[-1].similarity if len(hits) == count else -math.inf
        better = np.flatnonzero(similarities > least)
        rows = batch.select(ANNOTATION).take(pa.array(better)).to_pylist()
        found = map(Hit, similarities[better].tolist(), rows)
        hits = sorted([*hits, *found], key=attrgetter("similarity"), reverse=True)[:count]  # keeps the order of equals
    if not hits:
        raise ValueError("the run has no regions that could be searched")
    return hits


def _embeddings(batch: pa.RecordBatch, width: int) -> Array:
    """`[n, width]` float32."""
    embeddings = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)
    if embeddings.shape[1] != width:
        raise ValueError(
            f"the run's embeddings have {embeddings.shape[1]} dimensions, the text's {width}: it is of another CLIP"
        )
    return embeddings.astype(np.float32)


def load_run_clip(run: Path, model: str | None, weights: str | None, device: torch.device) -> ClipModel:
    """The CLIP that the run in the folder `run` was made with, by its run.json.

    model, weights: where it is now, if not where it was then; as in `load_clip`.

    Raises ValueError where there is no run and where the CLIP is another than the run's, ModelError where it cannot be
    loaded.
    """
    try:
        then = json.loads((run / FILE).read_text("utf-8"))["clip"]
        fingerprint = then["text_fingerprint"]
        if model is None:
            model, weights = then["model"], weights or then["weights"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{str(run)!r} cannot be searched: its {FILE} names no CLIP ({error!r})") from error
    try:
        clip = load_clip(model, weights, device)
    except ModelError as error:
        raise ModelError(f"{error}; --clip and --clip-weights say where the CLIP of {str(run)!r} is now") from error
    if clip.text_fingerprint != fingerprint:
        raise ValueError(
            f"the run in {str(run)!r} was made with another CLIP than {model!r} with the weights {weights!r}; name the "
            f"one that its {FILE} speaks of by --clip and --clip-weights, or label the images again"
        )
    return clip


def embed_text(clip: ClipModel, text: str) -> Tensor:
    """The embedding `[E]` float32 of a text as it stands, made orthogonal to that of "something else", of unit length.

    The embeddings of all texts have a direction in common, and what is near to that is near to every text: without it
    such regions would come first whatever the text is.

    Raises ValueError where it is blank, longer than CLIP can read, or means "something else".
    """
    if not text.strip():
        raise ValueError("there is nothing to search for: the text is blank")
    if clip.too_long([text]) == [True]:
        raise ValueError(f"the text does not fit the {clip.context_length} tokens that CLIP reads; shorten it")
    embedding, neutral = clip.encode_text([text, SOMETHING_ELSE])
    own = embedding - embedding @ neutral * neutral
    if own.norm() < MIN_MEANING:
        raise ValueError(f"the text {text!r} says no more than {SOMETHING_ELSE!r}; name what to look for")
    return normalize(own, dim=0)
