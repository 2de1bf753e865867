"""The vocabulary: class names with their synonyms, and their embeddings by CLIP."""

from __future__ import annotations

import os
import reprlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.errors import VocabularyError
from ovsr_gpu.models import text_cache
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.structures import ClassTexts
from ovsr_gpu.timing import stage

SOMETHING_ELSE = "something else"
"""The name of what is in none of the classes."""


@dataclass(frozen=True)
class Vocabulary:
    """The L classes to choose from; equal vocabularies compare and hash alike.

    synonyms: for each class the names that CLIP reads, one or more.
    names: what the L classes are called in the outputs. Unless given, each is called by the first of its synonyms.

    Raises VocabularyError where a name is empty, stands twice among the synonyms or twice among the names (case apart),
    or cannot be used, and where there are not as many names as classes.
    """

    synonyms: tuple[tuple[str, ...], ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        places = [f"class {position}" for position, _ in enumerate(self.synonyms, 1)]
        check_names(self.synonyms, places)
        if not self.names:
            object.__setattr__(self, "names", tuple(row[0] for row in self.synonyms))
        if len(self.names) != len(self.synonyms):
            raise VocabularyError(f"there must be a name for each of {len(self)} classes; got {len(self.names)}")
        check_names([(name,) for name in self.names], places)

    def __len__(self) -> int:
        return len(self.synonyms)

    @classmethod
    def parse(cls, classes: str | Sequence[str | Sequence[str]] | Vocabulary) -> Vocabulary:
        """Read a vocabulary, with white space folded.

        A string has `;` or a line break between classes and `,` between synonyms: "dog; grass, lawn; sky". A sequence
        has one class an element: "grass, lawn" or ("grass", "lawn").

        Raises VocabularyError, naming the class, where it cannot be used.
        """
        if isinstance(classes, Vocabulary):
            return classes
        if isinstance(classes, str):
            lines = (line.removesuffix(";") for line in _lines(classes) if line)
            classes = [entry for line in lines for entry in line.split(";")]
        if not isinstance(classes, Sequence):
            raise VocabularyError(f"classes must be a string or a sequence of names; got {type(classes).__name__}")
        return cls(tuple(_split(entry, f"class {position}") for position, entry in enumerate(classes, 1)))


def read_classes_file(path: str | os.PathLike[str]) -> Vocabulary:
    """Read a vocabulary from a UTF-8 text file: a class a line, # before a comment line.

    Between the synonyms of a line stand semicolons, or commas where it has no semicolon.

    Raises VocabularyError, naming the line, where the file cannot be read or used.
    """
    lines = {f"line {number} of {path}": line for number, line in enumerate(_lines(read_text(path)), 1)}
    rows = {
        place: _split(line.split(";") if ";" in line else line, place)
        for place, line in lines.items()
        if line and not line.startswith("#")
    }
    if not rows:
        raise VocabularyError(f"the classes file {path} names no class; write one a line")
    check_names(list(rows.values()), list(rows))  # here rather than by Vocabulary, so that errors name the line
    return Vocabulary(tuple(rows.values()))


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a UTF-8 classes file.

    Raises VocabularyError where the file cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise VocabularyError(f"the classes file {path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise VocabularyError(
            f"the classes file {path} is not UTF-8 (byte {error.start}, line {line}); save it as UTF-8"
        ) from error


@stage("vocabulary")
def embed_vocabulary(clip: ClipModel, vocabulary: Vocabulary, config: RecognitionConfig) -> ClassTexts:
    """The texts of a vocabulary on the model's device; the last are those of "something else", if it has prompts.

    With `config.synonyms` "mean" a class has one text, the mean direction of all its synonyms in all
    `config.templates`, and "something else" that of `config.something_else` as it stands. With "max" each synonym and
    each of these prompts has its own. A row depends on its own prompts alone and is kept on disk (`text_cache`).

    Raises VocabularyError for a name that does not fit the model's text context or stands in `config.something_else`.
    """
    reserved = {_folded(prompt) for prompt in config.something_else}
    for name in (name for row in vocabulary.synonyms for name in row):
        if _folded(name) in reserved:
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


def _split(entry: str | Sequence[str], place: str) -> tuple[str, ...]:
    names = entry.split(",") if isinstance(entry, str) else entry
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise VocabularyError(f"{place} must be a name or a sequence of names; got {entry!r}")
    return tuple(" ".join(name.split()) for name in names)


def check_names(rows: Sequence[tuple[str, ...]], places: Sequence[str]) -> None:
    """Raise VocabularyError, naming one of the `places` of the `rows`, where a vocabulary cannot have these names."""
    if not rows:
        raise VocabularyError("the vocabulary is empty; give at least one class name")
    seen: dict[str, str] = {}
    for row, place in zip(rows, places, strict=True):
        if not row or not all(row):
            raise VocabularyError(f"{place} has an empty name in {', '.join(row)!r}; take it out or fill it")
        for name in row:
            if ";" in name or any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
                raise VocabularyError(
                    f"{place} holds {name!r}; a name may not contain ';', control characters or lone surrogates"
                )
            if _folded(name) == SOMETHING_ELSE:
                raise VocabularyError(f"{place} is {name!r}, which is reserved for what is in no class; leave it out")
            if _folded(name) in seen:
                raise VocabularyError(
                    f"{name!r} stands twice, in {seen[_folded(name)]} and in {place}; a name may stand only once"
                )
            seen[_folded(name)] = f"{place} ({row[0]!r})"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
