"""Output names that are unique in a run of any length."""

from __future__ import annotations

import os
import re
import sqlite3
import unicodedata

MAX_NAME_BYTES = 240
"""Maximum bytes of each component of an output name: leaves room for `~2` and a suffix in the usual limit of 255."""

MAX_PATH_BYTES = 768
"""Maximum bytes of an output name: with a folder before it, it stays below 1024, the smallest path limit (macOS)."""

_FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]' if os.name == "nt" else "\0")


class NameRegistry:
    """The images found and the names assigned so far, stored on disk so that memory use is constant.

    Threads may share it but must not use it at the same time. Its methods raise sqlite3.Error if the folder for
    temporary files is full.
    """

    def __init__(self) -> None:
        # "" is a temporary file that is deleted on close. Keys come nearly in order, folder by folder, which makes
        # them twice as fast as hashes of half their size.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -16000")
        self._database.execute("CREATE TABLE taken (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def is_new(self, identity: str) -> bool:
        """Return whether this is the first call with `identity`."""
        return self._insert(b"image:" + identity.encode("utf-8", "surrogatepass"))

    def unique_name(self, relative: str) -> str:
        """Return a unique output name for an image.

        Args:
            relative: POSIX relative path of the image.

        Returns:
            The path without its suffix; duplicates, also names that are equal only on some file systems, get `~2`,
            `~3`... in order.
        """
        name = base = _output_name(relative)
        if not self._insert(_key(base)):
            [number] = self._database.execute("SELECT number FROM taken WHERE key = ?", [_key(base)]).fetchone()
            while not self._insert(_key(name)):
                number += 1
                name = f"{base}~{number}"
            self._database.execute("UPDATE taken SET number = ? WHERE key = ?", [number, _key(base)])
        return name

    def close(self) -> None:
        """Delete the temporary file."""
        self._database.close()

    def _insert(self, key: bytes) -> bool:
        """Insert a key and return whether it is new."""
        return self._database.execute("INSERT OR IGNORE INTO taken VALUES (?, 1)", [key]).rowcount == 1


def _output_name(relative: str) -> str:
    """Return `relative` without suffix, `..` and characters that a file system rejects, at its maximum length."""
    parts = [part for part in _FORBIDDEN.sub("_", relative).split("/") if part not in ("", ".", "..")] or ["_"]
    *folders, stem = [*parts[:-1], os.path.splitext(parts[-1])[0]]
    # A folder `a.png` would collide with the output a.png of an image `a`.
    folders = [f"{part}_" if part.lower().endswith((".png", ".jpg")) else part for part in map(_truncated, folders)]
    parts = [*folders, _truncated(stem)]
    while len(os.fsencode("/".join(parts))) > MAX_PATH_BYTES:
        del parts[0]
    return "/".join(parts)


def _truncated(part: str) -> str:
    part = part[:MAX_NAME_BYTES]
    while len(os.fsencode(part)) > MAX_NAME_BYTES:
        part = part[:-1]
    return part


def _key(name: str) -> bytes:
    """Return a key that is equal for names that some file system treats as equal."""
    return b"name:" + unicodedata.normalize("NFC", name).casefold().encode("utf-8", "surrogatepass")
