"""Label Studio: tasks with the regions as brush masks that a person corrects, and the labelling interface for them."""

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
from ovsr_gpu.runtime.atomic import json_line, replacing
from ovsr_gpu.sources.locations import is_url
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.store import ANNOTATION, ImageReader, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE

LARGEST = 100 * 2**20
"""Bytes of a file of tasks, but for its last image: Label Studio takes 250 MiB in one upload."""

LENGTH_BITS = (3, 4, 8, 16)
"""The bits that the length of a run may have in Label Studio's run lengths."""


def write_label_studio(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write `interface.xml` and `tasks-000.json`, `tasks-001.json`..., whose images each have one prediction.

    Masks are exact. A region has its score, and an image the least of them, so that the least certain come first in
    that order. Local images are asked for by their absolute paths, from a Label Studio that serves local files from
    the root of the file system; those behind URLs by these.

    Raises ValueError for an image in an archive or a video.
    """
    with replacing(out / "interface.xml") as file:
        file.write(_interface(classes).encode())
    names = [*classes, SOMETHING_ELSE]
    tasks = (json_line(_task(regions, names)) for regions in images(ANNOTATION))
    task, number = next(tasks, None), 0
    while task is not None:
        with replacing(out / f"tasks-{number:03}.json") as file:
            file.write(b"[" + task)
            while (task := next(tasks, None)) is not None and file.tell() < LARGEST:
                file.write(b"," + task)
            file.write(b"]\n")
        number += 1


def _interface(classes: Sequence[str]) -> str:
    colors = class_colors(len(classes)).tolist()
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{red:02x}{green:02x}{blue:02x}"/>\n'
        for name, (red, green, blue) in zip([*classes, SOMETHING_ELSE], colors, strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n  <BrushLabels name="region" toName="image">\n'
        f"{labels}  </BrushLabels>\n</View>\n"
    )


def _task(regions: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    path = regions[0]["file"]
    if regions[0]["source"] is not None:
        raise ValueError(
            f"the image {path!r} is no file of its own, so Label Studio cannot show it; label extracted images"
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
    """Label Studio's run lengths of a `[H, W]` bool mask, H and W at least 1, as a list of bytes.

    They are those of the rows of an RGBA image whose channels are all 255 inside and 0 outside: how many values there
    are (32 bits), the bits of a value less 1 (5), of each of the four kinds of length less 1 (4 x 4); then for every
    run a 1, its kind of length (2), its length less 1, and its value.
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
    joined = "".join(bits)
    size = -(-len(joined) // 8)
    return list(int(joined.ljust(8 * size, "0"), 2).to_bytes(size, "big"))
