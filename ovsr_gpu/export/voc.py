"""Pascal VOC segmentation, with the label map that CVAT reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ovsr_gpu.runtime.atomic import replacing
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.store import ANNOTATION, ImageReader

BACKGROUND = "background"
MOST = 254
"""The classes, and the objects of an image, that VOC can have: of 256 values 0 is background and 255 "ignore"."""


def write_voc(images: ImageReader, classes: Sequence[str], out: Path) -> None:
    """Write `SegmentationClass/` and `SegmentationObject/` as palette PNGs, `labelmap.txt` and the list of images.

    Classes are numbered from 1, and so are the regions of an image that have one; "something else" is background.

    Raises ValueError where VOC cannot have so many classes or regions, or a name.
    """
    colors = voc_colors()
    label_map = _label_map(classes, colors)
    with replacing(out / "labelmap.txt") as file:
        file.write(label_map.encode())
    with replacing(out / "ImageSets" / "Segmentation" / "default.txt") as names:
        for regions in images(ANNOTATION):
            name = regions[0]["image"]
            if name != name.strip() or name.startswith("#") or len(name.splitlines()) != 1:
                raise ValueError(
                    f"the image {name!r} cannot stand in VOC's list, which has a name a line without spaces around "
                    "it and takes # for a comment; choose another format"
                )
            known = np.array([row["class_index"] < len(classes) for row in regions])
            if known.sum() > MOST:
                raise ValueError(f"VOC has at most {MOST} objects an image, and {name!r} has {known.sum()}")
            kinds = known * [row["class_index"] + 1 for row in regions]
            objects = known * known.cumsum()
            for folder, values in (("SegmentationClass", kinds), ("SegmentationObject", objects)):
                image = Image.fromarray(paint_regions(regions, values.tolist()).astype(np.uint8), "P")
                image.putpalette(colors.tobytes())
                with replacing(out / folder / f"{name}.png") as file:
                    image.save(file, format="PNG")
            names.write(f"{name}\n".encode())


def voc_colors() -> Array:
    """VOC's colors, `[256, 3]` uint8: the bits of an index go to R, G and B in turn, the lowest to the highest."""
    index, bits = np.arange(256)[:, None], np.arange(8)
    return np.stack([((index >> 3 * bits + c & 1) << 7 - bits).sum(axis=1) for c in range(3)], axis=1).astype(np.uint8)


def _label_map(classes: Sequence[str], colors: Array) -> str:
    if len(classes) > MOST:
        raise ValueError(f"VOC has at most {MOST} classes; got {len(classes)}")
    for name in classes:
        if ":" in name or name.startswith("#") or name == BACKGROUND:
            raise ValueError(
                f"the class {name!r} cannot stand in VOC's label map, where : ends a name, # begins a comment and "
                f"{BACKGROUND} is what has no class; choose another format"
            )
    lines = [
        f"{name}:{','.join(map(str, color))}::\n"
        for name, color in zip([BACKGROUND, *classes], colors.tolist(), strict=False)
    ]
    return "# label:color_rgb:parts:actions\n" + "".join(lines)
