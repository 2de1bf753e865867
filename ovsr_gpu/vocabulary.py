"""Vocabularies: class names with their synonyms, from strings, files and known datasets."""

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
"""The name for regions that belong to none of the classes."""


@dataclass(frozen=True)
class Vocabulary:
    """The L classes to choose from; vocabularies with the same names and synonyms compare and hash equal.

    Args:
        synonyms: For each class the prompts that CLIP reads, one or more.
        names: The names of the L classes in the outputs; by default the first synonym of each class.

    Raises:
        VocabularyError: A name is empty, is not allowed, or occurs twice among the synonyms or among the names
            (ignoring case); or the number of names differs from the number of classes.

    Example:
        >>> Vocabulary((("dog",), ("grass", "lawn"))).names
        ('dog', 'grass')
    """

    synonyms: tuple[tuple[str, ...], ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        locations = [f"class {position}" for position, _ in enumerate(self.synonyms, 1)]
        check_names(self.synonyms, locations)
        if not self.names:
            object.__setattr__(self, "names", tuple(row[0] for row in self.synonyms))
        if len(self.names) != len(self.synonyms):
            raise VocabularyError(f"there must be a name for each of {len(self)} classes; got {len(self.names)}")
        check_names([(name,) for name in self.names], locations)

    def __len__(self) -> int:
        return len(self.synonyms)

    @classmethod
    def parse(cls, classes: str | Sequence[str | Sequence[str]] | Vocabulary) -> Vocabulary:
        """Parse a vocabulary; runs of white space become one space.

        Args:
            classes: A string with `;` or line breaks between classes and `,` between synonyms, such as
                "dog; grass, lawn; sky"; a sequence with one element per class, "grass, lawn" or ("grass", "lawn"); or a
                Vocabulary, which is returned unchanged.

        Returns:
            The vocabulary.

        Raises:
            VocabularyError: The vocabulary is not valid; the message names the class.
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
    """Read a vocabulary from a UTF-8 text file with one class per line; lines that start with # are comments.

    Synonyms are separated by semicolons, or by commas if the line has no semicolon.

    Raises:
        VocabularyError: The file cannot be read or is not valid; the message names the line.
    """
    lines = {f"line {number} of {path}": line for number, line in enumerate(_lines(read_text(path)), 1)}
    rows = {
        location: _split(line.split(";") if ";" in line else line, location)
        for location, line in lines.items()
        if line and not line.startswith("#")
    }
    if not rows:
        raise VocabularyError(f"the classes file {path} contains no class; write one class per line")
    check_names(list(rows.values()), list(rows))  # here and not in Vocabulary, so that errors name the line
    return Vocabulary(tuple(rows.values()))


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the content of a UTF-8 classes file.

    Raises:
        VocabularyError: The file cannot be read or is not UTF-8.
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


def _split(entry: str | Sequence[str], location: str) -> tuple[str, ...]:
    """Split an entry at commas and normalize the white space of its names."""
    names = entry.split(",") if isinstance(entry, str) else entry
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise VocabularyError(f"{location} must be a name or a sequence of names; got {entry!r}")
    return tuple(" ".join(name.split()) for name in names)


def check_names(rows: Sequence[tuple[str, ...]], locations: Sequence[str]) -> None:
    """Check the names of a vocabulary.

    Args:
        rows: The names of each class.
        locations: The location of each row, for the message.

    Raises:
        VocabularyError: There are no rows, or a name is empty, not allowed or not unique.
    """
    if not rows:
        raise VocabularyError("the vocabulary is empty; give at least one class name")
    seen: dict[str, str] = {}
    for row, location in zip(rows, locations, strict=True):
        if not row or not all(row):
            raise VocabularyError(f"{location} has an empty name in {', '.join(row)!r}; remove it or fill it in")
        for name in row:
            if ";" in name or any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
                raise VocabularyError(
                    f"{location} contains {name!r}; a name must not contain ';', control characters or lone surrogates"
                )
            if casefold_name(name) == SOMETHING_ELSE:
                raise VocabularyError(f"{location} is {name!r}, which is reserved for regions of no class; remove it")
            if casefold_name(name) in seen:
                raise VocabularyError(
                    f"{name!r} occurs twice, in {seen[casefold_name(name)]} and in {location}; names must be unique"
                )
            seen[casefold_name(name)] = f"{location} ({row[0]!r})"


def _lines(text: str) -> list[str]:
    """Return the stripped lines of a text."""
    return [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def casefold_name(name: str) -> str:
    """Return the form in which two names are compared: NFC, case folded."""
    return unicodedata.normalize("NFC", name).casefold()


BUILTIN_VOCABULARIES = (
    *("voc20", "voc21", "context-59", "context-60", "cityscapes-19", "coco-80", "coco-object-81", "coco-stuff-171"),
    *("ade20k-150", "camvid-11", "msrc-23", "voc20-sclip", "voc21-sclip", "coco-object-81-sclip"),
)
"""The vocabularies of `builtin_vocabulary`."""

Pairs = tuple[tuple[Any, Any], ...]
"""The entries of a map in a file, where a key can occur twice."""


def builtin_vocabulary(name: str) -> Vocabulary:
    """Return the classes of a dataset, in the order and spelling of the dataset.

    Args:
        name: One of `BUILTIN_VOCABULARIES`; the number in it is the number of classes. "voc21", "context-60" and
            "coco-object-81" are "voc20", "context-59" and "coco-80" with "background" as the first class. Names that
            end in "-sclip" have the same class names with the prompts of SCLIP.

    Returns:
        The vocabulary.

    Raises:
        VocabularyError: There is no such vocabulary.
    """
    if name not in BUILTIN_VOCABULARIES:
        raise VocabularyError(f"there is no vocabulary {name!r}; choose one of {', '.join(BUILTIN_VOCABULARIES)}")
    suffix = ".yaml" if name.endswith("-sclip") else ".txt"
    return read_vocabulary(Path(__file__).parent / "vocabularies" / f"{name}{suffix}")


def read_vocabulary(path: str | os.PathLike[str]) -> Vocabulary:
    """Read a vocabulary from a UTF-8 file; the suffix determines the format.

    A `.txt` file has one class per line, see `read_classes_file`. A `.yaml`, `.yml` or `.json` file contains one of

    - a list with one class per entry, as in `Vocabulary.parse`: "grass, lawn" or [grass, lawn];
    - a map {prompt: label}: CLIP reads the prompts, and the label is the class name. Prompts with the same label are
      one class, at the position of the first of them;
    - a map {label: [prompt, ...]} with the same meaning.

    The values of a map must be all text or all lists. Prompts and labels of a map are not split at commas.

    Args:
        path: The file.

    Returns:
        The vocabulary.

    Raises:
        VocabularyError: The file cannot be read or is not valid; the message names the file and the entry.
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
        raise VocabularyError(f"the classes file {path} contains no class")
    if isinstance(content, list):
        return _from_list(content, path)
    if isinstance(content, tuple):
        return _from_map(content, path)
    raise VocabularyError(f"the classes file {path} must contain a list or a map; it contains {content!r}")


class _PairsLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that maps become `Pairs`."""


_PairsLoader.add_constructor(
    "tag:yaml.org,2002:map", lambda loader, node: tuple(loader.construct_pairs(node, deep=True))
)


def _from_list(entries: list[Any], path: Path) -> Vocabulary:
    """Return the vocabulary of a list with one class per entry."""
    rows = {}
    for number, entry in enumerate(entries, 1):
        location = f"entry {number} of {path}"
        names = entry if isinstance(entry, list) else _text(entry, location).split(",")
        rows[location] = tuple(_text(name, location) for name in names)
    check_names(list(rows.values()), list(rows))
    return Vocabulary(tuple(rows.values()))


def _from_map(pairs: Pairs, path: Path) -> Vocabulary:
    """Return the vocabulary of a map from prompts to labels or from labels to prompts."""
    by_label = isinstance(pairs[0][1], list)
    rows: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        location = f"the entry {key!r} of {path}"
        if isinstance(value, list) is not by_label:
            raise VocabularyError(
                f"{location} contains {value!r}; the values of a map must be all labels or all lists of prompts"
            )
        label = _text(key if by_label else value, location)
        if by_label and label in rows:
            raise VocabularyError(f"the label {label!r} occurs twice in {path}; put all of its prompts in one list")
        rows[label] = rows.get(label, ()) + tuple(_text(prompt, location) for prompt in (value if by_label else [key]))
    locations = [f"the class {label!r} of {path}" for label in rows]
    check_names(list(rows.values()), locations)
    check_names([(label,) for label in rows], locations)
    return Vocabulary(tuple(rows.values()), tuple(rows))


def _text(value: object, location: str) -> str:
    """Check that a value is text and normalize its white space."""
    if not isinstance(value, str):
        raise VocabularyError(f"{location} contains {value!r}, which is not text; put it in quotes")
    return " ".join(value.split())
