"""Text embeddings of a vocabulary: prompts from templates and synonyms through CLIP's text tower."""

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
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary, casefolded


@stage("vocabulary")
def embed_vocabulary(clip: ClipModel, vocabulary: Vocabulary, config: RecognitionConfig) -> ClassTexts:
    """The texts of a vocabulary on the model's device; the last are those of "something else", if it has prompts.

    With `config.synonyms` "mean" a class has one text, the mean direction of all its synonyms in all
    `config.templates`, and "something else" that of `config.something_else` as it stands. With "max" each synonym and
    each of these prompts has its own. A row depends on its own prompts alone and is kept on disk (`text_cache`).

    Raises VocabularyError for a name that does not fit the model's text context or stands in `config.something_else`.
    """
    reserved = {casefolded(prompt) for prompt in config.something_else}
    for name in (name for row in vocabulary.synonyms for name in row):
        if casefolded(name) in reserved:
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
    key = text_cache.key(clip, prompts)
    embedding = text_cache.load(key)
    if embedding is None:
        if any(clip.too_long(prompts)):
            raise VocabularyError(
                f"the class {reprlib.repr(name)}, set in its templates, does not fit the {clip.context_length} "
                f"tokens that CLIP {clip.name!r} reads; shorten its names"
            )
        embedding = normalize(clip.encode_text(prompts).mean(0), dim=0).cpu()
        text_cache.store(key, embedding)
    return embedding


def _templates(config: RecognitionConfig) -> Sequence[Callable[[str], str]]:
    if config.templates == "imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return OPENAI_IMAGENET_TEMPLATES
    # Not str.format: a template may hold other braces.
    return [partial(template.replace, "{}") for template in config.templates]
