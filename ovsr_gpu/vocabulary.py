"""The vocabulary: class names with their synonyms; from strings, files, and known datasets."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ovsr_gpu.errors import VocabularyError

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
            if casefolded(name) == SOMETHING_ELSE:
                raise VocabularyError(f"{place} is {name!r}, which is reserved for what is in no class; leave it out")
            if casefolded(name) in seen:
                raise VocabularyError(
                    f"{name!r} stands twice, in {seen[casefolded(name)]} and in {place}; a name may stand only once"
                )
            seen[casefolded(name)] = f"{place} ({row[0]!r})"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def casefolded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


READY_VOCABULARIES = (
    *("voc20", "voc21", "context-59", "context-60", "cityscapes-19", "coco-80", "coco-object-81", "coco-stuff-171"),
    *("ade20k-150", "camvid-11", "msrc-23", "voc20-sclip", "voc21-sclip", "coco-object-81-sclip"),
)
"""The names that `ready_vocabulary` knows."""

Pairs = tuple[tuple[Any, Any], ...]
"""A map as it stands in a file, where a key can stand twice."""


def ready_vocabulary(name: str) -> Vocabulary:
    """The classes of a dataset, in the order of their indices there and spelt as there.

    name: one of `READY_VOCABULARIES`. The number is that of the classes; "voc21", "context-60" and "coco-object-81" are
    "voc20", "context-59" and "coco-80" after "background". With "-sclip" the names are the same, the prompts SCLIP's.

    Raises VocabularyError for any other name.
    """
    if name not in READY_VOCABULARIES:
        raise VocabularyError(f"there is no vocabulary {name!r}; there are {', '.join(READY_VOCABULARIES)}")
    suffix = ".yaml" if name.endswith("-sclip") else ".txt"
    return read_ontology(Path(__file__).parent / "vocabularies" / f"{name}{suffix}")


def read_ontology(path: str | os.PathLike[str]) -> Vocabulary:
    """Read a vocabulary from a UTF-8 file of a kind told by its suffix.

    `.txt`: a class a line, see `read_classes_file`. `.yaml`, `.yml` and `.json` hold one of

    - a list: a class an entry, as in `Vocabulary.parse`: "grass, lawn" or [grass, lawn];
    - a map {prompt: label}: CLIP reads the prompts, and the class is called by the label. Prompts with the same label
      are one class, which stands where the first of them does;
    - a map {label: [prompt, ...]}, which says the same.

    The two maps are told apart by their values, text or lists, which must not be mixed. Prompts and labels of a map are
    not split at commas.

    Raises VocabularyError, naming the file and the entry, where it cannot be read or used.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return read_classes_file(path)
    if suffix not in (".yaml", ".yml", ".json"):
        raise VocabularyError(f"the classes file {path} must end in .txt, .yaml, .yml or .json")
    text = read_text(path)
    try:
        if suffix == ".json":
            content = json.loads(text, object_pairs_hook=tuple) if text.strip() else None
        else:
            content = yaml.load(text, _PairsLoader)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise VocabularyError(f"the classes file {path} is not valid {suffix[1:].upper()}: {reason}") from error
    if content is None or content in ([], ()):
        raise VocabularyError(f"the classes file {path} names no class")
    if isinstance(content, list):
        return _from_list(content, path)
    if isinstance(content, tuple):
        return _from_map(content, path)
    raise VocabularyError(f"the classes file {path} must hold a list or a map; it holds {content!r}")


class _PairsLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but for maps, which become `Pairs`."""


_PairsLoader.add_constructor(
    "tag:yaml.org,2002:map", lambda loader, node: tuple(loader.construct_pairs(node, deep=True))
)


def _from_list(entries: list[Any], path: Path) -> Vocabulary:
    rows = {}
    for number, entry in enumerate(entries, 1):
        place = f"entry {number} of {path}"
        names = entry if isinstance(entry, list) else _text(entry, place).split(",")
        rows[place] = tuple(_text(name, place) for name in names)
    check_names(list(rows.values()), list(rows))
    return Vocabulary(tuple(rows.values()))


def _from_map(pairs: Pairs, path: Path) -> Vocabulary:
    by_label = isinstance(pairs[0][1], list)
    rows: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        place = f"the entry {key!r} of {path}"
        if isinstance(value, list) is not by_label:
            raise VocabularyError(
                f"{place} holds {value!r}; a map has labels everywhere or lists of prompts everywhere"
            )
        label = _text(key if by_label else value, place)
        if by_label and label in rows:
            raise VocabularyError(f"the label {label!r} stands twice in {path}; put all of its prompts in one list")
        rows[label] = rows.get(label, ()) + tuple(_text(prompt, place) for prompt in (value if by_label else [key]))
    places = [f"the class {label!r} of {path}" for label in rows]
    check_names(list(rows.values()), places)
    check_names([(label,) for label in rows], places)
    return Vocabulary(tuple(rows.values()), tuple(rows))


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise VocabularyError(f"{place} holds {value!r}, which is not text; put it in quotes")
    return " ".join(value.split())
