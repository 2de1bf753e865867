"""A byte-pair vocabulary of the words that the embedded CLIP is trained on, in the form that open_clip reads."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

BYTES = 256


def learn_merges(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Merges of the most frequent pair, the first in alphabetical order of those, until every word is one token.

    texts: lower case, ASCII. The form of the pieces is open_clip's, with `</w>` at the end of a word.
    """
    frequency = Counter(word for text in texts for word in _words(text))
    pieces = {word: [*word[:-1], f"{word[-1]}</w>"] for word in frequency}
    merges = []
    while pairs := _pairs(pieces, frequency):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    return merges


def write_merges(merges: Iterable[tuple[str, str]], path: Path) -> None:
    """Write a file for `open_clip.SimpleTokenizer(bpe_path=...)`, the same bytes for the same merges."""
    text = "\n".join(["#version: 0.2", *map(" ".join, merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def vocabulary_size(merges: list[tuple[str, str]]) -> int:
    """Tokens of open_clip's tokenizer with these merges: each byte within and at the end of a word, start, end."""
    return 2 * BYTES + len(merges) + 2


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in text).split()


def _pairs(pieces: dict[str, list[str]], frequency: Counter[str]) -> Counter[tuple[str, str]]:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, parts in pieces.items():
        for pair in pairwise(parts):
            pairs[pair] += frequency[word]
    return pairs


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result
