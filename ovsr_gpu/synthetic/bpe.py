"""Byte-pair encoding of the words that the embedded CLIP is trained on, in open_clip's file format."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

BYTES = 256


def learn_merges(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until every word is one token.

    Each step merges the most frequent pair; ties are broken alphabetically.

    Args:
        texts: Texts in lower case ASCII.

    Returns:
        The merges in their order; as in open_clip, the last token of a word ends with `</w>`.
    """
    frequency = Counter(word for text in texts for word in _words(text))
    tokens = {word: [*word[:-1], f"{word[-1]}</w>"] for word in frequency}
    merges = []
    while pairs := _count_pairs(tokens, frequency):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        tokens = {word: _merge(word_tokens, best) for word, word_tokens in tokens.items()}
    return merges


def write_merges(merges: Iterable[tuple[str, str]], path: Path) -> None:
    """Write a file for `open_clip.SimpleTokenizer(bpe_path=...)`; the same merges give the same bytes."""
    text = "\n".join(["#version: 0.2", *map(" ".join, merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def vocabulary_size(merges: list[tuple[str, str]]) -> int:
    """Return the vocabulary size of open_clip's tokenizer: bytes inside and at the end of words, merges, start, end."""
    return 2 * BYTES + len(merges) + 2


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in text).split()


def _count_pairs(tokens: dict[str, list[str]], frequency: Counter[str]) -> Counter[tuple[str, str]]:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, word_tokens in tokens.items():
        for pair in pairwise(word_tokens):
            pairs[pair] += frequency[word]
    return pairs


def _merge(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for token in tokens:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged
