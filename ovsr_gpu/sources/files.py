"""Find the images to label and give each of them a unique output name."""

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
from ovsr_gpu.sources.image_source import IMAGE_SUFFIXES, ImageSource, UnreadableImage, is_image_name
from ovsr_gpu.sources.lists import LIST_READERS, read_image_list, read_lines
from ovsr_gpu.sources.locations import Location, base_name, is_url, join, list_folder, location_type
from ovsr_gpu.sources.name_registry import NameRegistry
from ovsr_gpu.sources.shards import COMPRESSED_TAR_SUFFIXES, tar_images
from ovsr_gpu.sources.videos import is_video_name, video_frames

_NUMBER_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def iter_images(
    sources: Sequence[str | Path], *, exclude: Path | None = None, frame_stride: int | None = None
) -> Iterator[ImageSource]:
    """Find the images of all sources, lazily and without duplicates.

    Memory holds the names of one folder at a time; a temporary file holds about 100 bytes per image until the last
    image is found.

    A source is a local path or a URL that fsspec opens, of

    - an image, with any suffix;
    - a folder, searched recursively for visible files with one of `IMAGE_SUFFIXES`;
    - a `.tar` archive, see `tar_images`;
    - a video, recognized by its suffix, of which every `frame_stride`-th frame is an image, see `video_frames`;
    - a glob pattern for images, archives or videos: `*`, `?`, `[abc]`, and `**` for any number of folders;
    - a list: `.txt`, `.csv`, `.parquet`, or any text file with an `@` before its name, see `read_image_list`.

    `{0000..0012}` in a source is expanded to each of these numbers. An existing file with exactly the given name takes
    precedence over a pattern.

    Images come in the order of the sources, sorted by name within a folder, and in stored order within an archive or
    a list. Duplicate output names, also those that differ only in case or suffix, get `~2`, `~3`... in this order. A
    part of a source that cannot be read, such as a folder or a part of an archive, yields an `UnreadableImage`.

    Args:
        sources: Paths, URLs, patterns or lists.
        exclude: Local folder whose files are skipped, so that a run does not label its own outputs.
        frame_stride: Distance between the frames of videos, at least 1; required if a source is a video.

    Returns:
        An iterator over the images; advancing it raises OvsrError if the folder for temporary files is full.

    Raises:
        ValueError: A source does not exist, holds no image, is a video while `frame_stride` is None, or is a single
            video that cannot be read.
        OvsrError: A source needs a package that is not installed.
    """
    if frame_stride is not None and frame_stride < 1:
        raise ValueError(f"frame_stride, the distance between frames of videos, must be at least 1; got {frame_stride}")
    expanded = [numbered for source in sources for numbered in _expand_numbers(source)]
    images = _with_unique_names(expanded, exclude, frame_stride)
    first = next(images, None)
    for source in expanded[1:]:  # report a wrong source now, not after all images before it have been labelled
        next(_images_of(source, frame_stride))
    if first is None:
        raise ValueError("there is no image to label: name at least one image file, folder or glob pattern")
    return chain([first], images)


def find_images(
    sources: Sequence[str | Path], *, exclude: Path | None = None, frame_stride: int | None = None
) -> list[ImageSource]:
    """Return the images that `iter_images` finds as a list; arguments and errors are the same."""
    return list(iter_images(sources, exclude=exclude, frame_stride=frame_stride))


def _with_unique_names(
    sources: Sequence[str | Path], exclude: Path | None, frame_stride: int | None
) -> Iterator[ImageSource]:
    """Yield the images of all sources without duplicates, under their output names."""
    excluded_prefix = None if exclude is None else os.path.join(os.path.abspath(exclude), "")
    try:
        with closing(NameRegistry()) as registry:
            for image in chain.from_iterable(_images_of(source, frame_stride) for source in sources):
                identity = image.identity
                is_excluded = excluded_prefix is not None and identity.startswith(excluded_prefix)
                if not is_excluded and registry.is_new(identity):
                    yield replace(image, name=registry.unique_name(image.name))
    except sqlite3.Error as error:
        raise OvsrError(
            f"the names of the images cannot be stored in the folder for temporary files ({error}): free some space "
            "there, or set TMPDIR to another folder"
        ) from error


def _expand_numbers(source: str | Path) -> Iterator[str | Path]:
    """Expand each `{FIRST..LAST}` in a source to its numbers."""
    text = str(source)
    match = _NUMBER_RANGE.search(text)
    if match is None or os.path.lexists(source):
        yield source
        return
    for number in range(int(match[1]), int(match[2]) + 1):
        yield from _expand_numbers(f"{text[: match.start()]}{number:0{len(match[1])}}{text[match.end() :]}")


def _images_of(source: str | Path, frame_stride: int | None) -> Iterator[ImageSource]:
    """Yield the images of one source, at least one; their names are relative to the folder that the source names."""
    is_empty = True
    try:
        for image in _expand(source, frame_stride):
            is_empty = False
            yield image
    except (FileNotFoundError, NotADirectoryError):
        pass  # the folder in front of a pattern does not exist
    except OSError as error:
        raise ValueError(f"the source {str(source)!r} cannot be read ({error.strerror or error})") from error
    if is_empty:
        raise ValueError(
            f"there is no image in {str(source)!r} (suffixes of images in folders and archives: "
            f"{' '.join(sorted(IMAGE_SUFFIXES))})"
        )


def _expand(source: str | Path, frame_stride: int | None) -> Iterator[ImageSource]:
    text = str(source)
    is_list = text.startswith("@") and not os.path.lexists(text)
    text = text[is_list:]
    location: Location = text if is_url(text) else Path(text)
    kind, name = location_type(location), base_name(location)
    suffix = os.path.splitext(name)[1].lower()
    if kind != "folder" and name.lower().endswith(COMPRESSED_TAR_SUFFIXES):
        raise ValueError(f"images in the compressed archive {text!r} cannot be accessed: decompress it to a .tar")
    if kind != "folder" and is_video_name(name) and frame_stride is None:
        raise ValueError(
            f"{text!r} is a video, of which every Nth frame is labelled: set N with --frame-stride (in Python "
            "frame_stride=N); 1 is every frame, 30 about one per second"
        )
    if kind == "folder":
        yield from _find(location, ["**", "*"], frame_stride)
    elif kind is None and glob.has_magic(text):
        yield from _find(*_split_pattern(location), frame_stride)
    elif kind is None:
        raise ValueError(
            f"the source {text!r} does not exist: expected an image file, a folder, a glob pattern, a tar archive, "
            "a video or a list of images"
        )
    elif not (is_url(location) or os.path.isfile(location)):  # opening a pipe or a device could block forever
        yield ImageSource(location, name)
    elif suffix == ".tar":
        yield from tar_images(location, name)
    elif frame_stride is not None and is_video_name(name):
        frames = video_frames(location, name, frame_stride)
        first = next(frames)
        if isinstance(first, UnreadableImage):
            raise ValueError(f"the video {text!r} cannot be read: {first.reason}")
        yield from chain([first], frames)
    elif is_list or suffix in LIST_READERS:
        yield from read_image_list(location, LIST_READERS.get(suffix, read_lines))
    else:
        yield ImageSource(location, name)


def _split_pattern(location: Location) -> tuple[Location, Sequence[str]]:
    """Split a path into the folder before its first pattern and the components from there on."""
    parts = str(location).split("/") if is_url(location) else Path(location).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    folder = "/".join(parts[:first]) + "/" if is_url(location) else Path(*parts[:first])
    return folder, parts[first:]


def _find(folder: Location, patterns: Sequence[str], frame_stride: int | None) -> Iterator[ImageSource]:
    """Yield the images whose relative paths match the patterns component by component.

    If the last pattern has the suffix of a tar archive or a video, yield the images in the matching files.
    """
    is_tar, is_video = patterns[-1].lower().endswith(".tar"), is_video_name(patterns[-1])
    # A stack of open folders: relative path, indices of patterns that the next component may match, remaining names.
    open_folders = [("", _reachable(0, patterns), iter(list_folder(folder)))]
    while open_folders:
        prefix, candidates, names = open_folders[-1]
        name = next(names, None)
        if name is None:
            open_folders.pop()
        elif name.endswith("/"):
            relative = prefix + name
            location = join(folder, relative)
            is_link = not is_url(location) and os.path.islink(location)
            inner_candidates = _candidates_inside(name[:-1], candidates, patterns, is_link=is_link)
            if inner_candidates:
                try:
                    open_folders.append((relative, inner_candidates, iter(list_folder(location))))
                except OSError as error:
                    reason = f"the folder cannot be listed ({error.strerror or error})"
                    yield UnreadableImage(location, relative, reason)
        elif len(patterns) - 1 in candidates and fnmatch.fnmatch(name, patterns[-1]):
            relative = prefix + name
            if is_tar and name.lower().endswith(".tar"):
                yield from tar_images(join(folder, relative), relative)
            elif is_video and frame_stride is not None and is_video_name(name):
                yield from video_frames(join(folder, relative), relative, frame_stride)
            elif not (is_tar or is_video) and is_image_name(name):
                yield ImageSource(join(folder, relative), relative)


def _candidates_inside(name: str, candidates: Collection[int], patterns: Sequence[str], *, is_link: bool) -> set[int]:
    """Return the patterns that components inside a folder may match; `**` skips links, which may form cycles."""
    inner: set[int] = set()
    for index in candidates:
        if patterns[index] == "**":
            if not is_link:
                inner |= _reachable(index, patterns)
        elif index + 1 < len(patterns) and fnmatch.fnmatch(name, patterns[index]):
            inner |= _reachable(index + 1, patterns)
    return inner


def _reachable(index: int, patterns: Sequence[str]) -> set[int]:
    """Return a pattern and those after it that may match the same component, as `**` also matches no folder."""
    last = next(last for last in range(index, len(patterns)) if patterns[last] != "**" or last == len(patterns) - 1)
    return set(range(index, last + 1))
