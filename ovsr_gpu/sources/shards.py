"""Images in tar archives, such as WebDataset shards, read in place without extraction."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.decode import MAX_IMAGE_BYTES, ImageBytes, open_bytes
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage, is_image_name
from ovsr_gpu.sources.locations import Location, absolute, open_binary, read_bytes

COMPRESSED_TAR_SUFFIXES = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Suffixes of compressed archives, which allow no random access to an image."""

_END_OF_ARCHIVE = bytes(tarfile.BLOCKSIZE)
_HIDDEN = re.compile(r"(^|/)\.[^./\\]")
_ESCAPES_ARCHIVE = re.compile(r"^[/\\]|^\w:|(^|[/\\])\.\.[/\\]")


@dataclass(frozen=True)
class TarMember(ImageSource):
    """An image in a tar archive.

    Attributes:
        tar: The archive.
        offset: Offset of the image in the archive, in bytes.
        size: Size of the image, in bytes.
    """

    tar: Location
    offset: int
    size: int

    @property
    def identity(self) -> str:
        return f"{absolute(self.tar)}::{self.offset}"  # an archive may hold several members of the same name

    @property
    def locator(self) -> dict[str, Any]:
        return {"kind": "tar", "tar": absolute(self.tar), "offset": self.offset, "size": self.size}

    def open(self) -> AbstractContextManager[ImageBytes]:
        return open_bytes(str(self.path), self._read)

    def _read(self) -> bytes:
        size = min(self.size, MAX_IMAGE_BYTES + 1)
        data = read_bytes(self.tar, self.offset, size)
        if len(data) != size:
            raise ImageError("the archive ends in the middle of it")
        return data


def tar_images(tar: Location, relative: str) -> Iterator[ImageSource]:
    """Yield the visible files with the suffix of an image in an archive, in stored order.

    Args:
        tar: The archive.
        relative: POSIX path of the archive from which the output names `PATH/MEMBER` are made.

    Yields:
        `TarMember` objects; an `UnreadableImage` for each member that is not a regular file or whose path leads out
        of the archive, and for each damaged or missing part of the archive. All other members are still found.
    """
    base = os.path.splitext(relative)[0]
    try:
        with open_binary(tar) as file:
            for member in _members(file):
                if isinstance(member, str):
                    yield UnreadableImage(tar, base, member)
                elif is_image_name(member.name) and not _HIDDEN.search(member.name) and not member.isdir():
                    yield _image(tar, base, member)
    except Exception as error:  # tarfile raises errors of many types for broken headers
        yield UnreadableImage(tar, base, f"it cannot be read ({error})")


def _image(tar: Location, base: str, member: tarfile.TarInfo) -> ImageSource:
    path, name = f"{tar}::{member.name}", f"{base}/{member.name}"
    if _ESCAPES_ARCHIVE.search(member.name):
        return UnreadableImage(path, name, "its path leads out of the archive")
    if not member.isreg() or member.issparse():
        return UnreadableImage(path, name, "it is not a regular file in the archive, but a link, device or the like")
    return TarMember(path, name, tar, member.offset_data, member.size)


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo | str]:
    """Yield the members of an archive, and an error message for each part that cannot be read."""
    try:
        tar = tarfile.TarFile(fileobj=file)
    except Exception as error:
        yield f"it is not a tar archive, or a compressed one, which must be decompressed first ({error})"
        return
    is_damaged = False
    while True:
        reason = "there is no header"
        try:
            member = tar.next()
        except Exception as error:
            member, reason = None, str(error)
        if member is not None and (member.size < 0 or tar.offset < member.offset_data):
            # Older Python versions accept such a header and would then read the same members in an endless loop.
            tar.offset = member.offset_data - tarfile.BLOCKSIZE
            member, reason = None, "a negative size"
        if member is not None:
            is_damaged = False
            tar.members.clear()  # type: ignore[attr-defined]  # otherwise all members stay in memory
            yield member
            continue
        file.seek(tar.offset)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or (block == _END_OF_ARCHIVE and not is_damaged):
            break
        if not is_damaged:
            yield f"it is damaged from byte {tar.offset} to the next readable header ({reason})"
        is_damaged = True
        tar.offset += tarfile.BLOCKSIZE
    if block != _END_OF_ARCHIVE and not is_damaged:
        yield f"it ends without an end-of-archive mark, so it may be truncated ({reason})"
