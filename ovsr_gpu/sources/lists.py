"""Lists of images: a text file with a path or URL a line, or a column of a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage, is_image_name
from ovsr_gpu.sources.locations import Location, filesystem, is_url, join, open_binary, parent, path_for_name

COLUMNS = ("path", "file", "filename", "image", "url")
"""Names of the column that holds the images, the first of these that there is; a file's only column may have any."""

Reader = Callable[[BinaryIO], Iterator[str]]


def listed_images(source: Location, read: Reader) -> Iterator[ImageSource]:
    """The images that a list names, each with what stands in the list as its name.

    Paths are relative to the list's folder. What cannot be read of a list becomes one UnreadableImage.

    Raises ValueError where not even the first entry can be read, OvsrError where that one needs a package that is not
    installed.
    """
    folder, number = parent(source), 0
    try:
        with open_binary(source) as file:
            for number, entry in enumerate(read(file), 1):
                if number == 1 and is_url(entry):
                    filesystem(entry)
                if entry:
                    yield ImageSource(join(folder, entry), path_for_name(entry))
                else:
                    row = f"{source}:{number}"
                    yield UnreadableImage(row, row, "this entry of the list names no image")
    except (OSError, ValueError, csv.Error) as error:
        if number == 0:
            raise ValueError(f"the list {str(source)!r} cannot be read ({error})") from error
        yield UnreadableImage(source, str(source), f"what comes after entry {number} cannot be read ({error})")


def read_lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a text file in UTF-8 that are not empty."""
    with _as_text(file, None) as text:
        yield from filter(None, (line.rstrip("\n") for line in text))


def read_csv(file: BinaryIO) -> Iterator[str]:
    """The column of images of a CSV file; its first row names the columns, but may be missing where there is one.

    Raises ValueError where no column can be told to be the one.
    """
    with _as_text(file, "") as text:
        rows = filter(None, csv.reader(text))
        header = next(rows, [])
        if len(header) == 1 and (is_url(header[0]) or is_image_name(header[0])):
            yield header[0]
        column = _column(header)
        for row in rows:
            yield row[column] if column < len(row) else ""


def read_parquet(file: BinaryIO) -> Iterator[str]:
    """The column of images of a Parquet file, which is read in batches.

    Raises ValueError where no column can be told to be the one, OvsrError where pyarrow is not installed.
    """
    try:
        from pyarrow import parquet  # an optional dependency
    except ImportError as error:
        raise OvsrError(f"reading a Parquet file needs pyarrow ({error}): pip install pyarrow") from error
    table = parquet.ParquetFile(file)
    names = table.schema_arrow.names
    name = names[_column(names)]
    for batch in table.iter_batches(batch_size=1024, columns=[name]):
        for entry in batch.column(0).to_pylist():
            if not isinstance(entry, str | None):
                raise ValueError(f"its column {name!r} holds {type(entry).__name__} instead of paths or URLs")
            yield entry or ""


READERS: dict[str, Reader] = {".txt": read_lines, ".csv": read_csv, ".parquet": read_parquet}
"""By suffix."""


def _as_text(file: BinaryIO, newline: str | None) -> io.TextIOWrapper:
    # Paths may hold bytes that are no UTF-8; this is how Python's functions take them.
    return io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline)


def _column(names: Sequence[str]) -> int:
    known = [name.strip().lower() for name in names]
    for name in COLUMNS:
        if name in known:
            return known.index(name)
    if len(known) > 1:
        raise ValueError(f"none of its columns {', '.join(map(repr, names))} is called {', '.join(COLUMNS)}")
    return 0
