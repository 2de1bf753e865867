"""Files and folders on this machine, and those behind URLs that fsspec opens, seen alike."""

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
"""A local path, or the URL of something that fsspec opens."""


def is_url(location: Location) -> bool:
    return isinstance(location, str) and "://" in location


def absolute(location: Location) -> str:
    return str(location) if is_url(location) else os.path.abspath(location)


def join(folder: Location, relative: str) -> Location:
    """What `relative`, which may also be absolute or a URL, means in a folder; in one behind a URL it stays there."""
    if is_url(relative):
        return relative
    if is_url(folder):
        return f"{folder}{'' if str(folder).endswith('/') else '/'}{relative.lstrip('/')}"
    return Path(folder, relative)


def parent(location: Location) -> Location:
    return str(location).rpartition("/")[0] if is_url(location) else Path(location).parent


def path_for_name(location: Location) -> str:
    """What outputs are called by: the path, and of a URL host and path, without a password and the web's queries."""
    if not is_url(location):
        return Path(location).as_posix()
    scheme, _, rest = str(location).partition("://")
    host, slash, path = (re.split("[?#]", rest)[0] if scheme.startswith("http") else rest).partition("/")
    return host.rpartition("@")[2] + slash + path


def name_at(location: Location) -> str:
    return path_for_name(location).rstrip("/").rpartition("/")[2]


def kind_of(location: Location) -> Literal["folder", "file", None]:
    """None where there is nothing; a broken link counts as a file.

    Raises OSError where a URL cannot be asked, OvsrError as `filesystem` does.
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
    """The names in a folder, sorted, those of folders with a slash behind them, hidden ones left out.

    Raises OSError where it cannot be listed.
    """
    listing = _list_remote(str(folder)) if is_url(folder) else _list_local(folder)
    return sorted((name for name in listing if not name.startswith(".")), key=lambda name: name.rstrip("/"))


def open_binary(location: Location) -> BinaryIO:
    """Open a file to read and seek in; raises OSError."""
    if not is_url(location):
        return open(location, "rb")
    files, path = filesystem(str(location))
    with _as_os_error():
        file: BinaryIO = files.open(path, "rb")
    return file


def read_bytes(location: Location, start: int, size: int) -> bytes:
    """The `size` bytes of a file from `start` on, fewer at its end; raises OSError. Any thread may call this."""
    if not is_url(location):
        with open(location, "rb") as file:
            file.seek(start)
            return file.read(size)
    files, path = filesystem(str(location))
    with _as_os_error():
        data: bytes = files.cat_file(path, start=start, end=start + size)  # one request, and no byte more
    return data


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """What fsspec opens a URL with, and the path in it.

    Raises OvsrError where fsspec, or what it needs for such URLs, is not installed, and where it knows no such URLs.
    """
    try:
        from fsspec.core import url_to_fs  # an optional dependency

        return url_to_fs(url)
    except ImportError as error:
        raise OvsrError(f'reading {url!r} needs a package more ({error}): pip install "ovsr-gpu[remote]"') from error
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
        files.invalidate_cache(path)  # it would keep the listings of all folders
    for entry in entries:
        found = entry["name"].rstrip("/")
        if found != path.rstrip("/"):  # object stores may list a folder in itself
            yield found.rpartition("/")[2] + ("/" if entry["type"] == "directory" else "")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Every kind of storage has errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
