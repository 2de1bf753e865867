"""Finding the images to label and giving each an output name of its own."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.sources.image_source import SUFFIXES, ImageSource, UnreadableImage, is_image_name
from ovsr_gpu.sources.lists import READERS, listed_images, read_lines
from ovsr_gpu.sources.locations import Location, is_url, join, kind_of, list_folder, name_at
from ovsr_gpu.sources.name_registry import NameRegistry
from ovsr_gpu.sources.shards import COMPRESSED, tar_images
from ovsr_gpu.sources.videos import is_video_name, video_frames

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def iter_images(
    sources: Sequence[str | Path], *, outside: Path | None = None, frame_stride: int | None = None
) -> Iterator[ImageSource]:
    """Find the images of all sources, each once, while they are asked for.

    Memory holds the names of one folder at a time, and the disk some 100 bytes an image until the last one is found.
    A source is, as a local path or as a URL that fsspec opens,
    - an image, taken whatever its suffix;
    - a folder, searched recursively for visible files with one of `SUFFIXES`;
    - a `.tar` archive, see `tar_images`;
    - a video, told by its suffix, of which each `every`th frame is an image, see `video_frames`;
    - a pattern for images, archives or videos: `*`, `?`, `[abc]`, and `**` for any number of folders;
    - a list: `.txt`, `.csv`, `.parquet`, or any text file with an `@` before its name; see `listed_images`.
    `{0000..0012}` in it stands for each of these numbers. A file of that very name goes before a pattern.

    The order is that of the sources, of sorted names in a folder, and of archives and lists as they are. Local files in
    the folder `outside` are passed over, so that a run never takes in its own outputs. Equal names, also those that
    differ only in case or suffix, get `~2`, `~3`... in the order found. What cannot be read among the rest, such as a
    folder or a part of an archive, comes as an UnreadableImage.

    Raises, before it returns, ValueError where a source does not exist, holds no image, is a video named as such that
    cannot be read, or a video while `every` is None, and OvsrError where it needs a package that is not installed;
    later on only OvsrError, where the folder for temporary files is full.
    """
    if frame_stride is not None and frame_stride < 1:
        raise ValueError(f"frame_stride, the distance between frames of videos, must be at least 1; got {frame_stride}")
    each = [one for source in sources for one in _numbered(source)]
    images = _each_once(each, outside, frame_stride)
    first = next(images, None)
    for source in each[1:]:
        next(_images_of(source, frame_stride))
    if first is None:
        raise ValueError("no image to label was given: name at least one image file, folder or glob pattern")
    return chain([first], images)


def find_images(
    sources: Sequence[str | Path], *, outside: Path | None = None, frame_stride: int | None = None
) -> list[ImageSource]:
    """What `iter_images` finds, as a list."""
    return list(iter_images(sources, outside=outside, frame_stride=frame_stride))


def _each_once(sources: Sequence[str | Path], outside: Path | None, frame_stride: int | None) -> Iterator[ImageSource]:
    forbidden = None if outside is None else os.path.join(os.path.abspath(outside), "")
    try:
        with closing(NameRegistry()) as register:
            for image in chain.from_iterable(_images_of(source, frame_stride) for source in sources):
                identity = image.identity
                if (forbidden is None or not identity.startswith(forbidden)) and register.is_new(identity):
                    yield replace(image, name=register.unique_name(image.name))
    except sqlite3.Error as error:
        raise OvsrError(
            f"the names of the images cannot be kept in the folder for temporary files ({error}): make room there, "
            "or let TMPDIR name another folder"
        ) from error


def _numbered(source: str | Path) -> Iterator[str | Path]:
    found = _RANGE.search(str(source))
    if found is None or os.path.lexists(source):
        yield source
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _numbered(f"{str(source)[: found.start()]}{number:0{len(found[1])}}{str(source)[found.end() :]}")


def _images_of(source: str | Path, frame_stride: int | None) -> Iterator[ImageSource]:
    """The images of one source, at least one, with their paths relative to the place that it names for names."""
    empty = True
    try:
        for image in _expand(source, frame_stride):
            empty = False
            yield image
    except (FileNotFoundError, NotADirectoryError):
        pass  # there is no folder to look for a pattern in
    except OSError as error:
        raise ValueError(f"the source {str(source)!r} cannot be read ({error.strerror or error})") from error
    if empty:
        raise ValueError(
            f"there is no image in {str(source)!r} (in folders and archives they end in {' '.join(sorted(SUFFIXES))})"
        )


def _expand(source: str | Path, frame_stride: int | None) -> Iterator[ImageSource]:
    text = str(source)
    is_list = text.startswith("@") and not os.path.lexists(text)
    text = text[is_list:]
    place: Location = text if is_url(text) else Path(text)
    kind, name = kind_of(place), name_at(place)
    suffix = os.path.splitext(name)[1].lower()
    if kind != "folder" and name.lower().endswith(COMPRESSED):
        raise ValueError(f"in the compressed archive {text!r} no image can be reached: decompress it to a .tar")
    if kind != "folder" and is_video_name(name) and frame_stride is None:
        raise ValueError(
            f"{text!r} is a video, of which each Nth frame is labelled: give N by --frame-stride (in Python frame_stride=N); 1 is "
            "each frame, 30 about one a second"
        )
    if kind == "folder":
        yield from _find(place, ["**", "*"], frame_stride)
    elif kind is None and glob.has_magic(text):
        yield from _find(*_before_pattern(place), frame_stride)
    elif kind is None:
        raise ValueError(
            f"the source {text!r} does not exist: expected an image file, a folder, a glob pattern, a tar archive, "
            "a video or a list of images"
        )
    elif not (is_url(place) or os.path.isfile(place)):  # opening a pipe or a device could wait for ever
        yield ImageSource(place, name)
    elif suffix == ".tar":
        yield from tar_images(place, name)
    elif frame_stride is not None and is_video_name(name):
        frames = video_frames(place, name, frame_stride)
        first = next(frames)
        if isinstance(first, UnreadableImage):
            raise ValueError(f"the video {text!r} cannot be read: {first.reason}")
        yield from chain([first], frames)
    elif is_list or suffix in READERS:
        yield from listed_images(place, READERS.get(suffix, read_lines))
    else:
        yield ImageSource(place, name)


def _before_pattern(place: Location) -> tuple[Location, Sequence[str]]:
    """The folder before the first pattern in a path, and the parts from there on."""
    parts = str(place).split("/") if is_url(place) else Path(place).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    folder = "/".join(parts[:first]) + "/" if is_url(place) else Path(*parts[:first])
    return folder, parts[first:]


def _find(folder: Location, patterns: Sequence[str], frame_stride: int | None) -> Iterator[ImageSource]:
    """The images whose relative paths match the patterns part by part.

    Where the patterns end as the names of tars or videos do, those in such files.
    """
    tars, videos = patterns[-1].lower().endswith(".tar"), is_video_name(patterns[-1])
    # Of each folder down to the one at hand: its relative path, the patterns that the next part may match, the names.
    open_folders = [("", _from(0, patterns), iter(list_folder(folder)))]
    while open_folders:
        within, possible, names = open_folders[-1]
        name = next(names, None)
        if name is None:
            open_folders.pop()
        elif name.endswith("/"):
            relative = within + name
            place = join(folder, relative)
            inside = _inside(name[:-1], possible, patterns, is_link=not is_url(place) and os.path.islink(place))
            if inside:
                try:
                    open_folders.append((relative, inside, iter(list_folder(place))))
                except OSError as error:
                    yield UnreadableImage(place, relative, f"the folder cannot be listed ({error.strerror or error})")
        elif len(patterns) - 1 in possible and fnmatch.fnmatch(name, patterns[-1]):
            relative = within + name
            if tars and name.lower().endswith(".tar"):
                yield from tar_images(join(folder, relative), relative)
            elif videos and frame_stride is not None and is_video_name(name):
                yield from video_frames(join(folder, relative), relative, frame_stride)
            elif not (tars or videos) and is_image_name(name):
                yield ImageSource(join(folder, relative), relative)


def _inside(name: str, possible: Collection[int], patterns: Sequence[str], *, is_link: bool) -> set[int]:
    """The patterns that the next part may match in a folder; `**` enters no links, which may lead round in circles."""
    inside: set[int] = set()
    for number in possible:
        if patterns[number] == "**":
            if not is_link:
                inside |= _from(number, patterns)
        elif number + 1 < len(patterns) and fnmatch.fnmatch(name, patterns[number]):
            inside |= _from(number + 1, patterns)
    return inside


def _from(number: int, patterns: Sequence[str]) -> set[int]:
    """A pattern, and those behind it that may match in its place, because `**` also stands for no folder."""
    last = next(last for last in range(number, len(patterns)) if patterns[last] != "**" or last == len(patterns) - 1)
    return set(range(number, last + 1))
