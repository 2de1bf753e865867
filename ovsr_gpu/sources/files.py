"""Finding the pictures to label and giving each an output name of its own."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff"),
        *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)
"""What counts as a picture in a folder or a glob, in lower case."""

LONGEST_NAME = 240
"""Bytes of a file name kept in an output name: leaves room for `~2` and a suffix in the usual limit of 255."""


@dataclass(frozen=True)
class Picture:
    """A picture file and the name of its outputs: a POSIX relative path without suffix, unique in its run."""

    path: Path
    name: str


def find_pictures(sources: Sequence[str | Path], *, outside: Path | None = None) -> list[Picture]:
    """List the pictures of files, folders (searched recursively) and glob patterns, each file once.

    A file given by name is taken whatever its suffix; from folders and patterns only visible files with one of
    `SUFFIXES` are, in sorted order. Files in the folder `outside` are passed over, so that a run never takes in its
    own outputs. Equal names, also those that differ only in case or suffix, get `~2`, `~3`... in the order found.

    Raises ValueError where a source does not exist or holds no picture.
    """
    forbidden = None if outside is None else Path(os.path.abspath(outside))
    seen: set[Path] = set()
    taken: dict[str, int] = {}
    pictures = []
    for source in sources:
        for path, relative in _expand(source):
            absolute = Path(os.path.abspath(path))
            if absolute in seen or (forbidden is not None and forbidden in absolute.parents):
                continue
            seen.add(absolute)
            pictures.append(Picture(path, _unique_name(relative, taken)))
    if not pictures:
        raise ValueError("no picture to label was given: name at least one picture file, folder or glob pattern")
    return pictures


def _expand(source: str | Path) -> Iterator[tuple[Path, Path]]:
    """Yield each picture of one source with its path relative to the place the source names."""
    path = Path(source)
    found: Iterable[Path]
    if path.is_dir():
        root, found = path, _walk(path)
    elif os.path.lexists(path):
        yield path, Path(path.name)
        return
    elif glob.has_magic(str(source)):
        root = Path(*_before_pattern(path))
        found = map(Path, filter(os.path.isfile, glob.glob(str(source), recursive=True)))
    else:
        raise ValueError(
            f"the source {str(source)!r} does not exist: expected a picture file, a folder or a glob pattern"
        )
    relatives = sorted(file.relative_to(root) for file in found if file.suffix.lower() in SUFFIXES)
    if not relatives:
        raise ValueError(f"there is no picture in {str(source)!r} (looked for {' '.join(sorted(SUFFIXES))})")
    for relative in relatives:
        yield root / relative, relative


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in files if not name.startswith("."))


def _before_pattern(path: Path) -> Iterator[str]:
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _unique_name(relative: Path, taken: dict[str, int]) -> str:
    # A folder `a.png` would stand in the way of the output a.png of a picture `a`.
    folders = [f"{part}_" if part.lower().endswith(".png") else part for part in relative.parts[:-1]]
    stem = relative.stem
    while len(os.fsencode(stem)) > LONGEST_NAME:
        stem = stem[:-1]
    name = base = "/".join([*folders, stem])
    number = taken.get(_key(base), 0)
    while _key(name) in taken:
        number += 1
        name = f"{base}~{number}"
    taken[_key(base)] = max(number, 1)
    taken.setdefault(_key(name), 1)
    return name


def _key(name: str) -> str:
    """What is equal for names that some file system holds equal."""
    return unicodedata.normalize("NFC", name).casefold()
