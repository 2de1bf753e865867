"""Write files and folders atomically: they are either complete or absent."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from uuid import uuid4

TEMPORARY_SUFFIX = ".ovsr-unfinished"
"""Suffix of files that are not complete yet."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` when the block succeeds and is deleted when it fails.

    Args:
        path: File to write; missing folders are created.
        durable: Whether the file and its name must survive a power failure once the block has ended.

    Yields:
        The file, open for writing bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable and os.name == "posix":  # other systems cannot open a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Create a temporary folder that replaces `folder` when the block succeeds and is deleted when it fails.

    Args:
        folder: Folder to write; missing parents are created.

    Yields:
        The temporary folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new_folder = Path(temporary, "new")
        new_folder.mkdir()
        yield new_folder
        if folder.exists():
            folder.rename(Path(temporary, "old"))
        new_folder.rename(folder)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in UTF-8 atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with atomic_write(path) as file:
        # A lone surrogate, which Python uses for undecodable bytes in file names, becomes its JSON escape.
        file.write(text.encode("utf-8", "backslashreplace"))


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows of comma-separated values atomically, encoded as in `write_json`."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="", write_through=True)
        csv.writer(text, lineterminator="\n").writerows(rows)
        text.detach()


def json_line(content: Any) -> bytes:
    """Return one line of JSON in ASCII, so that no character of a name can be read as a line break."""
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"
