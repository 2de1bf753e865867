"""Label Studio: tasks with the regions as brush masks to correct by hand, and the labelling interface for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from pycocotools import mask

from ovsr_gpu import __version__
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.runtime.atomic import atomic_write, json_line
from ovsr_gpu.sources.locations import is_url
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE

MAX_FILE_BYTES = 100 * 2**20
"""A file of tasks ends with the first image that exceeds this size. Label Studio accepts uploads of up to 250 MiB."""

LENGTH_BITS = (3, 4, 8, 16)
"""The numbers of bits that Label Studio's format offers for the length of a run."""


def write_label_studio(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write `interface.xml` and `tasks-000.json`, `tasks-001.json`...; each task is an image with one prediction.

    Masks are exact. Each region has its score. An image has the lowest score of its regions, so that sorting by score
    shows the least certain images first. Local images are addressed by their absolute paths; Label Studio must serve
    local files from the root of the file system. Images behind URLs are addressed by their URLs.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.

    Raises:
        ValueError: An image is in an archive or a video.
    """
    with atomic_write(out / "interface.xml") as file:
        file.write(_interface(class_names).encode())
    names = [*class_names, SOMETHING_ELSE]
    tasks = (json_line(_task(regions, names)) for regions in images(ANNOTATION_COLUMNS))
    task, number = next(tasks, None), 0
    while task is not None:
        with atomic_write(out / f"tasks-{number:03}.json") as file:
            file.write(b"[" + task)
            while (task := next(tasks, None)) is not None and file.tell() < MAX_FILE_BYTES:
                file.write(b"," + task)
            file.write(b"]\n")
        number += 1


def _interface(class_names: Sequence[str]) -> str:
    colors = class_colors(len(class_names)).tolist()
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{red:02x}{green:02x}{blue:02x}"/>\n'
        for name, (red, green, blue) in zip([*class_names, SOMETHING_ELSE], colors, strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n  <BrushLabels name="region" toName="image">\n'
        f"{labels}  </BrushLabels>\n</View>\n"
    )


def _task(regions: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    path = regions[0]["file"]
    if regions[0]["source"] is not None:
        raise ValueError(
            f"the image {path!r} is inside an archive or a video, so Label Studio cannot show it; extract the images "
            "and label those"
        )
    if not is_url(path):
        inside_root = Path(path).relative_to(Path(path).anchor).as_posix()
        path = f"/data/local-files/?d={quote(inside_root)}"
    prediction = {
        "model_version": f"ovsr-gpu {__version__}",
        "score": round(min(row["score"] for row in regions), 6),
        "result": [_result(row, names[row["class_index"]]) for row in regions],
    }
    return {"data": {"image": path}, "predictions": [prediction]}


def _result(row: Row, name: str) -> dict[str, Any]:
    size = [row["height"], row["width"]]
    inside = mask.decode({"size": size, "counts": row["rle"]}).astype(bool)
    return {
        "id": str(row["region"]),
        "type": "brushlabels",
        "from_name": "region",
        "to_name": "image",
        "original_height": row["height"],
        "original_width": row["width"],
        "image_rotation": 0,
        "score": round(row["score"], 6),
        "value": {"format": "rle", "rle": brush_rle(inside), "brushlabels": [name]},
    }


def brush_rle(inside: Array) -> list[int]:
    """Encode a mask in Label Studio's run-length format.

    The format encodes the RGBA image whose channels are all 255 inside the mask and 0 outside, row by row. The bits
    are: the number of values (32 bits); the bits per value minus 1 (5); the four numbers of bits that the length of a
    run may have, minus 1 (4 x 4). For each run follow: a 1; which of the four numbers of bits its length has (2); its
    length minus 1; its value.

    Args:
        inside: `[H, W]` bool, H and W at least 1.

    Returns:
        The encoded bytes as integers.
    """
    flat = inside.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = 4 * np.diff(ends, prepend=0)
    bits = [f"{4 * flat.size:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in LENGTH_BITS)]
    value = bool(flat[0])
    for length in lengths.tolist():
        for start in range(0, length, 2 ** LENGTH_BITS[-1]):
            last = min(length - start, 2 ** LENGTH_BITS[-1]) - 1
            kind = sum(last >> size > 0 for size in LENGTH_BITS)
            bits.append(f"1{kind:02b}{last:0{LENGTH_BITS[kind]}b}{255 * value:08b}")
        value = not value
    bit_string = "".join(bits)
    size = -(-len(bit_string) // 8)
    return list(int(bit_string.ljust(8 * size, "0"), 2).to_bytes(size, "big"))
