"""Text embeddings of a vocabulary: prompts from templates and synonyms, encoded by CLIP's text tower."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.errors import VocabularyError
from ovsr_gpu.models import text_cache
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.results import ClassTexts
from ovsr_gpu.runtime.timing import stage
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary, casefold_name


@stage("vocabulary")
def embed_vocabulary(clip: ClipModel, vocabulary: Vocabulary, config: RecognitionConfig) -> ClassTexts:
    """Return the text embeddings of a vocabulary on the model's device.

    With `config.synonyms` "mean" a class has one text: the normalized mean of all its synonyms in all
    `config.templates`; "something else" has the normalized mean of `config.something_else`, without templates. With
    "max" each synonym and each of these prompts has its own text. The texts of "something else", if it has prompts,
    come last. A row depends only on its own prompts and is cached on disk (`text_cache`).

    Args:
        clip: The model.
        vocabulary: The L classes.
        config: Templates, synonyms and prompts for "something else".

    Returns:
        T texts with unit embeddings `[T, E]`.

    Raises:
        VocabularyError: A name does not fit the model's context length, or is also in `config.something_else`.
    """
    reserved = {casefold_name(prompt) for prompt in config.something_else}
    for name in chain.from_iterable(vocabulary.synonyms):
        if casefold_name(name) in reserved:
            raise VocabularyError(f"the class name {name!r} is reserved by recognition.something_else; rename it")
    templates = _templates(config)
    names = [*vocabulary.names, SOMETHING_ELSE]
    prompts = [[[template(synonym) for template in templates] for synonym in row] for row in vocabulary.synonyms]
    prompts.append([[prompt] for prompt in config.something_else])
    if config.synonyms == "mean":
        prompts = [[list(chain.from_iterable(texts))] if texts else [] for texts in prompts]
    embeddings = [_embed(clip, name, text) for name, texts in zip(names, prompts, strict=True) for text in texts]
    class_index = [index for index, texts in enumerate(prompts) for _ in texts]
    return ClassTexts(
        torch.stack(embeddings).to(clip.device), torch.tensor(class_index, device=clip.device), len(vocabulary)
    )


def _embed(clip: ClipModel, name: str, prompts: list[str]) -> Tensor:
    """Return the normalized mean of the prompts, `[E]` on the CPU, from the cache if it is there."""
    key = text_cache.cache_key(clip, prompts)
    embedding = text_cache.load(key)
    if embedding is None:
        if any(clip.exceeds_context_length(prompts)):
            raise VocabularyError(
                f"the class {reprlib.repr(name)} with its templates does not fit the {clip.context_length} "
                f"tokens that CLIP {clip.name!r} reads; shorten its names"
            )
        embedding = normalize(clip.encode_text(prompts).mean(0), dim=0).cpu()
        text_cache.store(key, embedding)
    return embedding


def _templates(config: RecognitionConfig) -> Sequence[Callable[[str], str]]:
    """Return functions that put a class name into a template."""
    if config.templates == "imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return OPENAI_IMAGENET_TEMPLATES
    # Not str.format: a template may contain other braces.
    return [partial(template.replace, "{}") for template in config.templates]
