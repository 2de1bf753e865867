"""Tar archives, as of WebDataset: their images are read where they lie, nothing is extracted."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.decode import LARGEST, ImageBytes, open_bytes
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage, is_image_name
from ovsr_gpu.sources.locations import Location, absolute, open_binary, read_bytes

COMPRESSED = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Ends of names: only by decompressing all before it would one come to an image."""

END_MARK = bytes(tarfile.BLOCKSIZE)
_HIDDEN = re.compile(r"(^|/)\.[^./\\]")
_LEADING_OUT = re.compile(r"^[/\\]|^\w:|(^|[/\\])\.\.[/\\]")


@dataclass(frozen=True)
class TarMember(ImageSource):
    """An image in a tar archive: `size` bytes from `offset` on."""

    tar: Location
    offset: int
    size: int

    @property
    def identity(self) -> str:
        return f"{absolute(self.tar)}::{self.offset}"  # an archive may hold one name many times

    @property
    def locator(self) -> dict[str, Any]:
        return {"kind": "tar", "tar": absolute(self.tar), "offset": self.offset, "size": self.size}

    def open(self) -> AbstractContextManager[ImageBytes]:
        return open_bytes(str(self.path), self._read)

    def _read(self) -> bytes:
        size = min(self.size, LARGEST + 1)
        data = read_bytes(self.tar, self.offset, size)
        if len(data) != size:
            raise ImageError("the archive ends in the middle of it")
        return data


def tar_images(tar: Location, relative: str) -> Iterator[ImageSource]:
    """The visible files with an image's suffix in an archive, in its order, named after it and their path in it.

    relative: the archive's own path, from which the names are made.

    Members that are no plain files, or whose paths lead out of the archive, and every part of the archive that is
    broken or missing, become an UnreadableImage each. Of the rest nothing is lost.
    """
    base = os.path.splitext(relative)[0]
    try:
        with open_binary(tar) as file:
            for member in _members(file):
                if isinstance(member, str):
                    yield UnreadableImage(tar, base, member)
                elif is_image_name(member.name) and not _HIDDEN.search(member.name) and not member.isdir():
                    yield _image(tar, base, member)
    except Exception as error:  # on broken headers tarfile raises nearly anything
        yield UnreadableImage(tar, base, f"it cannot be read ({error})")


def _image(tar: Location, base: str, member: tarfile.TarInfo) -> ImageSource:
    path, name = f"{tar}::{member.name}", f"{base}/{member.name}"
    if _LEADING_OUT.search(member.name):
        return UnreadableImage(path, name, "its path leads out of the archive")
    if not member.isreg() or member.issparse():
        return UnreadableImage(path, name, "it is not a plain file in the archive, but a link, device or the like")
    return TarMember(path, name, tar, member.offset_data, member.size)


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo | str]:
    """The members of an archive; in place of what cannot be read, what is wrong."""
    try:
        tar = tarfile.TarFile(fileobj=file)
    except Exception as error:
        yield f"it is no tar archive, or a compressed one, which has to be decompressed first ({error})"
        return
    lost = False
    while True:
        reason = "there is no header"
        try:
            member = tar.next()
        except Exception as error:
            member, reason = None, str(error)
        if member is not None and (member.size < 0 or tar.offset < member.offset_data):
            # Older releases of Python take such a header, and would go back and round in circles.
            tar.offset = member.offset_data - tarfile.BLOCKSIZE
            member, reason = None, "a negative size"
        if member is not None:
            lost = False
            tar.members.clear()  # type: ignore[attr-defined]  # else they would all stay in memory
            yield member
            continue
        file.seek(tar.offset)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or (block == END_MARK and not lost):
            break
        if not lost:
            yield f"from byte {tar.offset} to the next header that can be read it is broken ({reason})"
        lost = True
        tar.offset += tarfile.BLOCKSIZE
    if block != END_MARK and not lost:
        yield f"it ends without an end mark, so it may be truncated ({reason})"
