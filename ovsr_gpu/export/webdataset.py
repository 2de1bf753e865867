"""WebDataset shards: `shards/<number>.tar` with image files and annotations."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

from ovsr_gpu.drawing.palette import class_colors, label_image
from ovsr_gpu.interop import coco_annotation
from ovsr_gpu.runtime.atomic import atomic_write
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.sources.stored import stored_image
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE

SHARD_IMAGES = 1000

Member = tuple[str, bytes]


def write_webdataset(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write shards of `SHARD_IMAGES` images each, in the order of the store.

    The key of an image is its number in the run. Its members are:

    - `.jpg`, or the suffix of the image file: the original file, byte for byte;
    - `.labels.png`: the label map, as `image_files.PaletteWriter` writes it;
    - `.json`: name, path and regions, and "error" if the image file can no longer be read and is therefore missing.

    Complete shards from an earlier session of the run are kept: the same images always give the same shards.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.
    """
    remaining = enumerate(images(ANNOTATION_COLUMNS))
    for shard in count():
        shard_images = list(islice(remaining, SHARD_IMAGES))
        if not shard_images:
            break
        path = out / "shards" / f"{shard:06}.tar"
        if not _is_complete(path, len(shard_images)):
            with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for members in map_ahead(lambda item: [*_members(*item, class_names)], shard_images):
                    for name, data in members:
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))


def _is_complete(path: Path, num_images: int) -> bool:
    if not path.exists():
        return False
    with tarfile.open(path) as tar:
        return sum(member.name.endswith(".json") for member in tar) == num_images


def _members(number: int, regions: list[Row], class_names: Sequence[str]) -> Iterator[Member]:
    key, row = f"{number:09}", regions[0]
    content: dict[str, Any] = {name: row[name] for name in ("image", "file", "height", "width")}
    try:
        with stored_image(row["image"], row["file"], row["source"]).open() as file:
            yield f"{key}{os.path.splitext(row['file'])[1].lower()}", file.read()
    except (OSError, ValueError) as error:
        content["error"] = str(error)
    labels = io.BytesIO()
    class_map = paint_regions(regions, [region["class_index"] for region in regions])
    label_image(class_map, class_colors(len(class_names))).save(labels, format="PNG")
    yield f"{key}.labels.png", labels.getvalue()
    names = [*class_names, SOMETHING_ELSE]
    content["regions"] = [
        {"class": names[region["class_index"]], **coco_annotation(number, region)} for region in regions
    ]
    yield f"{key}.json", json.dumps(content).encode("ascii")
