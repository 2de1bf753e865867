"""Lists of images: a text file with one path or URL per line, or a column of a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage, is_image_name
from ovsr_gpu.sources.locations import Location, filesystem, is_url, join, open_binary, parent, path_for_name

IMAGE_COLUMNS = ("path", "file", "filename", "image", "url")
"""Names of the column with the images, in order of preference; the only column of a file may have any name."""

ListReader = Callable[[BinaryIO], Iterator[str]]


def read_image_list(source: Location, read: ListReader) -> Iterator[ImageSource]:
    """Yield the images of a list; relative paths are relative to the folder of the list.

    Args:
        source: The list.
        read: One of `LIST_READERS`.

    Yields:
        `ImageSource` objects with the entries of the list as their names. An empty entry becomes an
        `UnreadableImage`, and so does the rest of a list that cannot be read to its end.

    Raises:
        ValueError: Not even the first entry can be read.
        OvsrError: The first entry needs a package that is not installed.
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
    """Yield the non-empty lines of a UTF-8 text file."""
    with _as_text(file, None) as text:
        yield from filter(None, (line.rstrip("\n") for line in text))


def read_csv(file: BinaryIO) -> Iterator[str]:
    """Yield the column of images of a CSV file.

    The first row has the names of the columns; a file with a single column may lack it.

    Raises:
        ValueError: No column has one of the names in `IMAGE_COLUMNS`.
    """
    with _as_text(file, "") as text:
        rows = filter(None, csv.reader(text))
        header = next(rows, [])
        if len(header) == 1 and (is_url(header[0]) or is_image_name(header[0])):
            yield header[0]
        column = _column_index(header)
        for row in rows:
            yield row[column] if column < len(row) else ""


def read_parquet(file: BinaryIO) -> Iterator[str]:
    """Yield the column of images of a Parquet file, read in batches of rows.

    Raises:
        ValueError: No column has one of the names in `IMAGE_COLUMNS`, or the column does not hold strings.
    """
    from pyarrow import parquet  # a slow import that only this function needs

    table = parquet.ParquetFile(file)
    names = table.schema_arrow.names
    name = names[_column_index(names)]
    for batch in table.iter_batches(batch_size=1024, columns=[name]):
        for entry in batch.column(0).to_pylist():
            if not isinstance(entry, str | None):
                raise ValueError(f"its column {name!r} holds {type(entry).__name__} instead of paths or URLs")
            yield entry or ""


LIST_READERS: dict[str, ListReader] = {".txt": read_lines, ".csv": read_csv, ".parquet": read_parquet}
"""The reader for each suffix."""


def _as_text(file: BinaryIO, newline: str | None) -> io.TextIOWrapper:
    # Paths may hold bytes that are not UTF-8; Python's file functions accept them as surrogate escapes.
    return io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline)


def _column_index(names: Sequence[str]) -> int:
    lowered = [name.strip().lower() for name in names]
    for name in IMAGE_COLUMNS:
        if name in lowered:
            return lowered.index(name)
    if len(lowered) > 1:
        raise ValueError(f"none of its columns {', '.join(map(repr, names))} is named {', '.join(IMAGE_COLUMNS)}")
    return 0
