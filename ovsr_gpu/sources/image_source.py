"""One image of a run: what its outputs are called, what messages call it, and how it is opened."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.decode import LARGEST, ImageBytes, ImageFile, open_bytes, open_image
from ovsr_gpu.sources.locations import Location, absolute, is_url, read_bytes

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff"),
        *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)
"""What counts as an image in a folder, a pattern or a tar, in lower case."""

_SUFFIXES = tuple(SUFFIXES)


def is_image_name(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class ImageSource:
    """An image file, or one behind a URL, and the name of its outputs.

    path: what messages and records show. name: a POSIX relative path without suffix, unique in its run.
    """

    path: Location
    name: str

    @property
    def identity(self) -> str:
        """Equal for images that are one and the same."""
        return absolute(self.path)

    @property
    def locator(self) -> dict[str, Any]:
        """What it takes beside path and name to open the image again, as JSON has it; see `sources.stored`."""
        return {}

    def open(self) -> AbstractContextManager[ImageFile | ImageBytes]:
        """Open the image for reading; may be called in any thread or process.

        What is wrong with it, found here or in the block, becomes an ImageError that names it.
        """
        if is_url(self.path):
            return open_bytes(str(self.path), lambda: read_bytes(self.path, 0, LARGEST + 1))
        return open_image(self.path)


@dataclass(frozen=True)
class PrefetchedImage(ImageSource):
    """An image that was read before, perhaps on another machine: its bytes, or the error that reading it raised."""

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
    """Read an image's bytes, whatever comes of it."""
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
    """Something that cannot be read, as was found when it was listed; opening it raises ImageError."""

    reason: str

    @property
    def identity(self) -> str:
        return f"{absolute(self.path)}: {self.reason}"

    def open(self) -> NoReturn:
        raise ImageError(f"cannot read {str(self.path)!r}: {self.reason}")
