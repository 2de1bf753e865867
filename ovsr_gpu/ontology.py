"""Vocabularies from files, and those of well-known data sets by name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from ovsr_gpu.errors import VocabularyError
from ovsr_gpu.stages.vocabulary import Vocabulary, check_names, read_classes_file, read_text

READY_VOCABULARIES = (
    *("voc20", "voc21", "context-59", "context-60", "cityscapes-19", "coco-80", "coco-object-81", "coco-stuff-171"),
    *("ade20k-150", "camvid-11", "msrc-23", "voc20-sclip", "voc21-sclip", "coco-object-81-sclip"),
)
"""The names that `ready_vocabulary` knows."""

Pairs = tuple[tuple[Any, Any], ...]
"""A map as it stands in a file, where a key can stand twice."""


def ready_vocabulary(name: str) -> Vocabulary:
    """The classes of a data set, in the order of their indices there and spelt as there.

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
