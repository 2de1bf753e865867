"""One image of a run: its output name, its name in messages, and how it is opened."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.decode import MAX_IMAGE_BYTES, ImageBytes, ImageFile, open_bytes, open_image
from ovsr_gpu.sources.locations import Location, absolute, is_url, read_bytes

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff"),
    *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Suffixes, in lower case, of the files that count as images in a folder, a pattern or a tar archive."""


def is_image_name(name: str) -> bool:
    """Return whether a file name has one of `IMAGE_SUFFIXES`, in upper or lower case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


@dataclass(frozen=True)
class ImageSource:
    """An image file or URL, and the name of its outputs.

    Attributes:
        path: Path or URL, as messages and records show it.
        name: POSIX relative path without suffix, unique in its run.
    """

    path: Location
    name: str

    @property
    def identity(self) -> str:
        """A string that is equal for two sources of the same image."""
        return absolute(self.path)

    @property
    def locator(self) -> dict[str, Any]:
        """JSON fields that are needed to open the image again, in addition to path and name; see `sources.stored`."""
        return {}

    def open(self) -> AbstractContextManager[ImageFile | ImageBytes]:
        """Open the image for reading; safe to call from any thread or process.

        Returns:
            A context manager that yields a binary file.

        Raises:
            ImageError: The image cannot be opened, or the block raises an error about it; the message names the image.
        """
        if is_url(self.path):
            return open_bytes(str(self.path), lambda: read_bytes(self.path, 0, MAX_IMAGE_BYTES + 1))
        return open_image(self.path)


@dataclass(frozen=True)
class PrefetchedImage(ImageSource):
    """An image that was read earlier, perhaps on another machine.

    Attributes:
        original: The source that was read.
        data: The bytes of the file, or the error that reading it raised.
        disk_seconds: Time spent on reading, in seconds.
    """

    original: ImageSource
    data: bytes | Exception
    disk_seconds: float = 0.0

    @property
    def identity(self) -> str:
        return self.original.identity

    @property
    def locator(self) -> dict[str, Any]:
        return self.original.locator

    def open(self) -> AbstractContextManager[ImageBytes]:
        data = self.data
        if isinstance(data, Exception):
            raise data
        return open_bytes(str(self.path), lambda: data, self.disk_seconds)


def prefetch(image: ImageSource) -> PrefetchedImage:
    """Read the bytes of an image; an error is stored and raised when the result is opened."""
    data: bytes | Exception
    disk_seconds = 0.0
    try:
        with image.open() as file:
            data = file.read()
            disk_seconds = file.disk_seconds
    except Exception as error:
        data = error
    return PrefetchedImage(image.path, image.name, image, data, disk_seconds)


@dataclass(frozen=True)
class UnreadableImage(ImageSource):
    """An image that turned out to be unreadable while it was listed; `open` raises ImageError.

    Attributes:
        reason: Why it cannot be read.
    """

    reason: str

    @property
    def identity(self) -> str:
        return f"{absolute(self.path)}: {self.reason}"

    def open(self) -> NoReturn:
        raise ImageError(f"cannot read {str(self.path)!r}: {self.reason}")
