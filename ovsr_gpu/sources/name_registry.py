"""Output names that are unique in a run of any length."""

from __future__ import annotations

import os
import re
import sqlite3
import unicodedata

LONGEST_NAME = 240
"""Bytes of a file name kept in an output name: leaves room for `~2` and a suffix in the usual limit of 255."""

LONGEST_PATH = 768
"""Bytes of an output name: with a folder before it, it stays within the least limit in use, the 1024 of macOS."""

_FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]' if os.name == "nt" else "\0")


class NameRegistry:
    """The images met and the names given so far, on disk, so that memory stays the same however many there are.

    It may be handed from thread to thread, but used by one at a time. Raises sqlite3.Error where the folder for
    temporary files is full.
    """

    def __init__(self) -> None:
        # "" stands for a file among the temporary ones that is gone when this is closed. Keys come nearly in order,
        # folder by folder, and in that order they are twice as fast as hashes of half their size.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -16000")
        self._database.execute("CREATE TABLE taken (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def is_new(self, identity: str) -> bool:
        """Whether this is the first call with `identity`."""
        return self._take(b"image:" + identity.encode("utf-8", "surrogatepass"))

    def unique_name(self, relative: str) -> str:
        """The output name for the POSIX relative path of an image.

        Names that are equal, also those that only some file system holds equal, get `~2`, `~3`... in turn.
        """
        name = base = _output_name(relative)
        if not self._take(_key(base)):
            [number] = self._database.execute("SELECT number FROM taken WHERE key = ?", [_key(base)]).fetchone()
            while not self._take(_key(name)):
                number += 1
                name = f"{base}~{number}"
            self._database.execute("UPDATE taken SET number = ? WHERE key = ?", [number, _key(base)])
        return name

    def close(self) -> None:
        self._database.close()

    def _take(self, key: bytes) -> bool:
        return self._database.execute("INSERT OR IGNORE INTO taken VALUES (?, 1)", [key]).rowcount == 1


def _output_name(relative: str) -> str:
    """`relative` without its suffix, and without anything that leads elsewhere or that file systems do not take."""
    parts = [part for part in _FORBIDDEN.sub("_", relative).split("/") if part not in ("", ".", "..")] or ["_"]
    *folders, stem = [*parts[:-1], os.path.splitext(parts[-1])[0]]
    # A folder `a.png` would stand in the way of the output a.png of an image `a`.
    folders = [f"{part}_" if part.lower().endswith((".png", ".jpg")) else part for part in map(_shortened, folders)]
    parts = [*folders, _shortened(stem)]
    while len(os.fsencode("/".join(parts))) > LONGEST_PATH:
        del parts[0]
    return "/".join(parts)


def _shortened(part: str) -> str:
    part = part[:LONGEST_NAME]
    while len(os.fsencode(part)) > LONGEST_NAME:
        part = part[:-1]
    return part


def _key(name: str) -> bytes:
    """What is equal for names that some file system holds equal."""
    return b"name:" + unicodedata.normalize("NFC", name).casefold().encode("utf-8", "surrogatepass")
