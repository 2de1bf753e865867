"""Look up the source lines that instructions come from."""

from __future__ import annotations

import linecache
import re
from functools import lru_cache

_BENIGN = re.compile(r"\brace is benign\b")


def source_line(path: str, line: int) -> str:
    """Return a line of a file without indentation, "" where it does not exist."""
    return linecache.getline(path, line).strip()


def states_benign_race(path: str, line: int) -> bool:
    """Return whether a line belongs to a statement below a comment with the words "race is benign"."""
    return line in _benign_lines(path)


@lru_cache(maxsize=256)
def _benign_lines(path: str) -> frozenset[int]:
    """Return the lines of the statements, such as a whole loop, that stand below such a comment."""
    found: set[int] = set()
    comment, indentation = "", -1
    in_statement = False
    for number, line in enumerate(linecache.getlines(path), 1):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if in_statement and text and indent <= indentation:
            in_statement = False
        if text.startswith("#") and not in_statement:
            comment, indentation = f"{comment} {text[1:].strip()}", indent
        elif text and not in_statement:
            in_statement, comment = bool(_BENIGN.search(comment)), ""
            if in_statement:
                indentation = indent
        if in_statement:
            found.add(number)
    return frozenset(found)
