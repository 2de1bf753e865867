"""One picture of a run: what its outputs are called, what messages call it, and how it is opened."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from ovsr_gpu.errors import PictureError
from ovsr_gpu.sources.decode import LARGEST, PictureBytes, PictureFile, open_bytes, open_picture
from ovsr_gpu.sources.locations import Location, absolute, is_url, read_bytes

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff"),
        *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)
"""What counts as a picture in a folder, a pattern or a tar, in lower case."""

_SUFFIXES = tuple(SUFFIXES)


def is_picture_name(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class Picture:
    """A picture file, or one behind a URL, and the name of its outputs.

    path: what messages and records show. name: a POSIX relative path without suffix, unique in its run.
    """

    path: Location
    name: str

    @property
    def identity(self) -> str:
        """Equal for pictures that are one and the same."""
        return absolute(self.path)

    @property
    def source(self) -> dict[str, Any]:
        """What it takes beside path and name to open the picture again, as JSON has it; see `sources.stored`."""
        return {}

    def open(self) -> AbstractContextManager[PictureFile | PictureBytes]:
        """Open the picture for reading; may be called in any thread or process.

        What is wrong with it, found here or in the block, becomes a PictureError that names it.
        """
        if is_url(self.path):
            return open_bytes(str(self.path), lambda: read_bytes(self.path, 0, LARGEST + 1))
        return open_picture(self.path)


@dataclass(frozen=True)
class HeldPicture(Picture):
    """A picture that was read before, perhaps on another machine: its bytes, or the error that reading it raised."""

    original: Picture
    data: bytes | Exception
    disk_seconds: float = 0.0

    @property
    def identity(self) -> str:
        return self.original.identity

    @property
    def source(self) -> dict[str, Any]:
        return self.original.source

    def open(self) -> AbstractContextManager[PictureBytes]:
        data = self.data
        if isinstance(data, Exception):
            raise data
        return open_bytes(str(self.path), lambda: data, self.disk_seconds)


def held(picture: Picture) -> HeldPicture:
    """Read a picture's bytes, whatever comes of it."""
    data: bytes | Exception
    disk_seconds = 0.0
    try:
        with picture.open() as file:
            data = file.read()
            disk_seconds = file.disk_seconds
    except Exception as error:
        data = error
    return HeldPicture(picture.path, picture.name, picture, data, disk_seconds)


@dataclass(frozen=True)
class UnreadablePicture(Picture):
    """Something that cannot be read, as was found when it was listed; opening it raises PictureError."""

    reason: str

    @property
    def identity(self) -> str:
        return f"{absolute(self.path)}: {self.reason}"

    def open(self) -> NoReturn:
        raise PictureError(f"cannot read {str(self.path)!r}: {self.reason}")
