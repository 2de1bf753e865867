"""Pascal VOC segmentation masks, with the label map that CVAT reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ovsr_gpu.runtime.atomic import atomic_write
from ovsr_gpu.store.masks import paint_regions
from ovsr_gpu.store.reader import ImageReader
from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS

BACKGROUND = "background"
MAX_LABELS = 254
"""The largest number of classes, and of objects per image. Of 256 values, 0 is background and 255 is "ignore"."""


def write_voc(images: ImageReader, class_names: Sequence[str], out: Path) -> None:
    """Write `SegmentationClass/` and `SegmentationObject/` as palette PNGs, `labelmap.txt` and the list of images.

    Classes are numbered from 1. So are the regions of an image, without those of "something else", which is background.

    Args:
        images: Reads the images of the run, see `store.reader.ImageReader`.
        class_names: The L class names.
        out: The folder to write to.

    Raises:
        ValueError: VOC allows fewer classes or objects, or a class or an image has a name that VOC cannot represent.
    """
    colors = voc_colors()
    label_map = _label_map(class_names, colors)
    with atomic_write(out / "labelmap.txt") as file:
        file.write(label_map.encode())
    with atomic_write(out / "ImageSets" / "Segmentation" / "default.txt") as image_list:
        for regions in images(ANNOTATION_COLUMNS):
            name = regions[0]["image"]
            if name != name.strip() or name.startswith("#") or len(name.splitlines()) != 1:
                raise ValueError(
                    f"the image name {name!r} is not possible in VOC's image list, which has one name per line without "
                    "spaces around it and reads # as a comment; choose another format"
                )
            has_class = np.array([row["class_index"] < len(class_names) for row in regions])
            if has_class.sum() > MAX_LABELS:
                raise ValueError(f"VOC has at most {MAX_LABELS} objects per image, and {name!r} has {has_class.sum()}")
            class_values = has_class * [row["class_index"] + 1 for row in regions]
            object_values = has_class * has_class.cumsum()
            for folder, values in (("SegmentationClass", class_values), ("SegmentationObject", object_values)):
                image = Image.fromarray(paint_regions(regions, values.tolist()).astype(np.uint8), "P")
                image.putpalette(colors.tobytes())
                with atomic_write(out / folder / f"{name}.png") as file:
                    image.save(file, format="PNG")
            image_list.write(f"{name}\n".encode())


def voc_colors() -> Array:
    """Return VOC's color map.

    The bits of an index, from the lowest on, become bits of R, G and B in turn, from the highest on.

    Returns:
        `[256, 3]` uint8.
    """
    index, bits = np.arange(256)[:, None], np.arange(8)
    return np.stack([((index >> 3 * bits + c & 1) << 7 - bits).sum(axis=1) for c in range(3)], axis=1).astype(np.uint8)


def _label_map(class_names: Sequence[str], colors: Array) -> str:
    if len(class_names) > MAX_LABELS:
        raise ValueError(f"VOC has at most {MAX_LABELS} classes; got {len(class_names)}")
    for name in class_names:
        if ":" in name or name.startswith("#") or name == BACKGROUND:
            raise ValueError(
                f"the class name {name!r} is not possible in VOC's label map, where : ends a name, # begins a comment "
                f"and {BACKGROUND} means no class; choose another format"
            )
    lines = [
        f"{name}:{','.join(map(str, color))}::\n"
        for name, color in zip([BACKGROUND, *class_names], colors.tolist(), strict=False)
    ]
    return "# label:color_rgb:parts:actions\n" + "".join(lines)
