"""Files and folders, either local or behind URLs that fsspec opens, through one set of functions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ovsr_gpu.errors import OvsrError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Location = Path | str
"""A local path, or a URL that fsspec opens."""


def is_url(location: Location) -> bool:
    """Return whether a location is a URL."""
    return isinstance(location, str) and "://" in location


def absolute(location: Location) -> str:
    """Return the absolute path of a local file, or a URL unchanged."""
    return str(location) if is_url(location) else os.path.abspath(location)


def join(folder: Location, relative: str) -> Location:
    """Resolve a path against a folder.

    Args:
        folder: Local folder or URL.
        relative: Relative path, absolute path or URL.

    Returns:
        The location; with a URL as the folder, an absolute path stays below that URL.
    """
    if is_url(relative):
        return relative
    if is_url(folder):
        return f"{folder}{'' if str(folder).endswith('/') else '/'}{relative.lstrip('/')}"
    return Path(folder, relative)


def parent(location: Location) -> Location:
    """Return the folder that contains a file."""
    return str(location).rpartition("/")[0] if is_url(location) else Path(location).parent


def path_for_name(location: Location) -> str:
    """Return the POSIX path from which an output name is made.

    For a URL this is host and path, without credentials and, for HTTP, without query and fragment.
    """
    if not is_url(location):
        return Path(location).as_posix()
    scheme, _, rest = str(location).partition("://")
    host, slash, path = (re.split("[?#]", rest)[0] if scheme.startswith("http") else rest).partition("/")
    return host.rpartition("@")[2] + slash + path


def base_name(location: Location) -> str:
    """Return the last component of `path_for_name`."""
    return path_for_name(location).rstrip("/").rpartition("/")[2]


def location_type(location: Location) -> Literal["folder", "file", None]:
    """Return what is at a location: "folder", "file" (also for a broken link), or None if nothing is there.

    Raises:
        OSError: The storage behind a URL does not answer.
        OvsrError: As `filesystem` does.
    """
    if not is_url(location):
        return "folder" if os.path.isdir(location) else "file" if os.path.lexists(location) else None
    if str(location).endswith("/"):
        return "folder"
    files, path = filesystem(str(location))
    try:
        with _as_os_error():
            return "folder" if files.info(path)["type"] == "directory" else "file"
    except FileNotFoundError:
        return None


def list_folder(folder: Location) -> list[str]:
    """Return the sorted names in a folder, without hidden ones; names of folders end with a slash.

    Raises:
        OSError: The folder cannot be listed.
    """
    listing = _list_remote(str(folder)) if is_url(folder) else _list_local(folder)
    return sorted((name for name in listing if not name.startswith(".")), key=lambda name: name.rstrip("/"))


def open_binary(location: Location) -> BinaryIO:
    """Open a file for reading and seeking.

    Raises:
        OSError: The file cannot be opened.
    """
    if not is_url(location):
        return open(location, "rb")
    files, path = filesystem(str(location))
    with _as_os_error():
        file: BinaryIO = files.open(path, "rb")
    return file


def read_bytes(location: Location, start: int, size: int) -> bytes:
    """Read a range of bytes; safe to call from any thread.

    Args:
        location: Local file or URL.
        start: Offset of the first byte.
        size: Number of bytes.

    Returns:
        The bytes, fewer than `size` at the end of the file.

    Raises:
        OSError: The file cannot be read.
    """
    if not is_url(location):
        with open(location, "rb") as file:
            file.seek(start)
            return file.read(size)
    files, path = filesystem(str(location))
    with _as_os_error():
        data: bytes = files.cat_file(path, start=start, end=start + size)  # one request, and only this range
    return data


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return fsspec's file system for a URL, and the path of the URL in it.

    Raises:
        OvsrError: fsspec or a package that it needs for this URL is not installed, or the protocol is unknown.
    """
    try:
        from fsspec.core import url_to_fs  # an optional dependency

        return url_to_fs(url)
    except ImportError as error:
        raise OvsrError(
            f'reading {url!r} needs an additional package ({error}): pip install "ovsr-gpu[remote]"'
        ) from error
    except ValueError as error:
        raise OvsrError(f"{url!r} cannot be read ({error})") from error


def _list_local(folder: Location) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))
            yield f"{entry.name}/" if is_folder else entry.name


def _list_remote(url: str) -> Iterator[str]:
    files, path = filesystem(url)
    with _as_os_error():
        entries: list[dict[str, Any]] = files.ls(path, detail=True)
        files.invalidate_cache(path)  # otherwise fsspec keeps the listings of all folders in memory
    for entry in entries:
        entry_path = entry["name"].rstrip("/")
        if entry_path != path.rstrip("/"):  # object stores may list a folder as an entry of itself
            yield entry_path.rpartition("/")[2] + ("/" if entry["type"] == "directory" else "")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Convert the errors that are specific to a storage back end to OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
