"""WebDataset shards: `shards/<number>.tar`, each with the files and annotations of so many images."""

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
from ovsr_gpu.runtime.atomic import replacing
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.sources.stored import stored_image
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.store import ANNOTATION, ImageReader, Row
from ovsr_gpu.vocabulary import SOMETHING_ELSE

SHARD_IMAGES = 1000

Member = tuple[str, bytes]


def write_webdataset(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write shards of `SHARD_IMAGES` images in the order of the store.

    An image's files are called by its number in the run: `.jpg`, or what its file ends in, byte for byte as it is;
    `.labels.png`, as `palette.PaletteWriter` writes it; `.json`, with its name, its file and its regions. One that
    cannot be read any more has `"error"` in its JSON in place of its file. Shards that stand there whole from an
    earlier session of the run are kept: the same images always make the same shards.
    """
    found = enumerate(images(ANNOTATION))
    for shard in count():
        own = list(islice(found, SHARD_IMAGES))
        if not own:
            break
        path = out / "shards" / f"{shard:06}.tar"
        if not _has_all(path, len(own)):
            with replacing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for members in map_ahead(lambda item: [*_members(*item, classes)], own):
                    for name, data in members:
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))


def _has_all(path: Path, images: int) -> bool:
    if not path.exists():
        return False
    with tarfile.open(path) as tar:
        return sum(member.name.endswith(".json") for member in tar) == images


def _members(number: int, regions: list[Row], classes: Sequence[str]) -> Iterator[Member]:
    key, row = f"{number:09}", regions[0]
    content: dict[str, Any] = {name: row[name] for name in ("image", "file", "height", "width")}
    try:
        with stored_image(row["image"], row["file"], row["source"]).open() as file:
            yield f"{key}{os.path.splitext(row['file'])[1].lower()}", file.read()
    except (OSError, ValueError) as error:
        content["error"] = str(error)
    labels = io.BytesIO()
    class_map = paint_regions(regions, [region["class_index"] for region in regions])
    label_image(class_map, class_colors(len(classes))).save(labels, format="PNG")
    yield f"{key}.labels.png", labels.getvalue()
    names = [*classes, SOMETHING_ELSE]
    content["regions"] = [
        {"class": names[region["class_index"]], **coco_annotation(number, region)} for region in regions
    ]
    yield f"{key}.json", json.dumps(content).encode("ascii")
