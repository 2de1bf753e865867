"""The schema of a run's store: one row per region, and the images that could not be labelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from ovsr_gpu.sources.locations import absolute
from ovsr_gpu.store.record import Array, LabelledImage

STORE_FOLDER = "store"
"""The subfolder of the run's folder that holds the parts."""

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("file", pa.string()),
        ("source", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("region", pa.int32()),
        ("box", pa.list_(pa.int32(), 4)),
        ("area", pa.int64()),
        ("class_index", pa.int32()),
        ("score", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("rle", pa.string()),
        ("embedding", pa.list_(pa.float16())),
    ]
)
"""The columns. Each row is one region; the rows of an image are consecutive and ordered by region number.

image: The name of the image, unique in the run.
file: An absolute path or a URL; "archive::member" for a tar member, "video::frame" for a video frame.
source: JSON that tells `sources.stored` how to open an image that is not a file; null for files and URLs.
height, width: The size of the image in pixels.
region: The number of the region in its image, from 0.
box: x0, y0, x1, y1 in pixels; x1 and y1 are exclusive.
area: Pixels.
class_index: L means "something else".
score: The probability of the predicted class.
probabilities: L + 1 values, the last one for "something else".
rle: The mask as COCO's compressed run lengths.
embedding: The CLIP embedding, unit length.
"""

ANNOTATION_COLUMNS = tuple(name for name in SCHEMA.names if name not in ("probabilities", "embedding"))
"""The columns that annotation formats need. The two others take up most of the store."""

Row = dict[str, Any]
"""One region: column name -> value, for the requested columns of `SCHEMA`."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be labelled.

    Attributes:
        image: The name of the image.
        path: Its path or URL.
        stage: "decode" or "segment".
        reason: The error message.
    """

    image: str
    path: str
    stage: str
    reason: str


@dataclass(frozen=True)
class LabelledBatch:
    """The result of one batch of images.

    Attributes:
        regions: The rows of the labelled images, see `regions_table`.
        failures: The images that could not be labelled.
        num_labelled: Number of labelled images.
        wait_seconds: Seconds that the models' thread waited, by cause, see `runs.wait_stats`.
        num_decoded_on_device: Number of images that were decoded on a GPU.
    """

    regions: pa.Table
    failures: list[Failure]
    num_labelled: int
    wait_seconds: dict[str, float]
    num_decoded_on_device: int

    @property
    def num_images(self) -> int:
        """Number of images, labelled or failed."""
        return self.num_labelled + len(self.failures)


def regions_table(records: Sequence[LabelledImage]) -> pa.Table:
    """Return the rows of labelled images.

    Args:
        records: The images, in the order of the rows.

    Returns:
        A table with the columns of `SCHEMA` and one row per region.
    """
    if not records:
        return SCHEMA.empty_table()
    counts = [len(record.areas) for record in records]
    images = [record.source for record in records]
    sources = [escape_non_utf8(json.dumps(image.locator)) if image.locator else None for image in images]
    image_index = np.repeat(np.arange(len(records)), counts)
    image_columns = (
        [escape_non_utf8(image.name) for image in images],
        [escape_non_utf8(absolute(image.path)) for image in images],
        sources,
        *np.array([record.region_map.shape for record in records]).T,
    )
    columns = [
        *(pa.array(values).take(pa.array(image_index)) for values in image_columns),
        pa.array(np.concatenate([np.arange(count) for count in counts])),
        _list_column(records, "boxes"),
        *(pa.array(_concatenated(records, name)) for name in ("areas", "class_index", "scores")),
        _list_column(records, "probabilities"),
        pa.array([counts for record in records for counts in record.run_lengths]),
        _list_column(records, "embeddings", np.float16),
    ]
    return pa.table([column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def _concatenated(records: Sequence[LabelledImage], name: str) -> Array:
    return np.concatenate([getattr(record, name) for record in records])


def _list_column(records: Sequence[LabelledImage], name: str, dtype: DTypeLike | None = None) -> pa.FixedSizeListArray:
    """Return a column with one fixed-size list per region."""
    values = _concatenated(records, name)
    if dtype:
        values = values.astype(dtype, copy=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def escape_non_utf8(name: str) -> str:
    """Return a file name as valid UTF-8: bytes that are not UTF-8 become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def part_paths(out: Path) -> list[Path]:
    """Return the files of the store in the run's folder `out`, in the order in which they were written."""
    return sorted((out / STORE_FOLDER).glob("part-*.parquet"), key=part_number)


def part_number(path: Path) -> int:
    """Return the number in the name of a part."""
    return int(path.stem.removeprefix("part-"))
