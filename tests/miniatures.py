"""Miniature datasets with the folders, names and encodings of the real ones and two small images each; and scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovsr_gpu.synthetic.scenes import CLASSES, make_scene

VOC_PALETTE = [channel for index in range(256) for channel in (index * 64 % 256, index * 8 % 256, index * 32 % 256)]


@dataclass(frozen=True)
class Miniature:
    """The layout and encoding of a dataset, written independently of the package.

    Attributes:
        images, labels: Paths with {} for a name.
        values: Values that the label maps hold.
        class_index: From a value to its class index, VOID = -1.
        names: The examples in their order.
        clutter: Files that do not belong to the dataset.
    """

    folder: str
    images: str
    labels: str
    values: list[int]
    class_index: Callable[[int], int]
    names: tuple[str, str] = ("a", "b")
    split: str | None = None
    palette: bool = False
    clutter: tuple[str, ...] = ()


VOC = {
    "folder": "VOCdevkit/VOC2012",
    "images": "JPEGImages/{}.jpg",
    "labels": "SegmentationClass/{}.png",
    "values": [*range(21), 255],
    "names": ("2008_000002", "2007_000033"),
    "split": "ImageSets/Segmentation/val.txt",
    "palette": True,
    "clutter": ("JPEGImages/2009_000001.jpg", "SegmentationClass/2009_000007.png"),
}
CONTEXT = {
    "folder": "VOCdevkit/VOC2010",
    "images": "JPEGImages/{}.jpg",
    "labels": "SegmentationClassContext/{}.png",
    "values": list(range(60)),
    "names": ("2008_000002", "2007_000033"),
    "split": "ImageSets/SegmentationContext/val.txt",
    "clutter": ("JPEGImages/2009_000001.jpg",),
}
COCO = {
    "folder": "coco_stuff164k",
    "images": "images/val2017/{}.jpg",
    "names": ("000000000139", "000000000285"),
    "clutter": ("annotations/val2017/000000000139.png", "images/val2017/._000000000139.jpg"),
}
MINIATURES = {
    "voc20": Miniature(**VOC, class_index=lambda value: -1 if value in (0, 255) else value - 1),
    "voc21": Miniature(**VOC, class_index=lambda value: -1 if value == 255 else value),
    "context-59": Miniature(**CONTEXT, class_index=lambda value: value - 1),
    "context-60": Miniature(**CONTEXT, class_index=lambda value: value),
    "ade20k-150": Miniature(
        folder="ADEChallengeData2016",
        images="images/validation/{}.jpg",
        labels="annotations/validation/{}.png",
        values=list(range(151)),
        class_index=lambda value: value - 1,
        names=("ADE_val_00000001", "ADE_val_00000002"),
        clutter=("images/training/ADE_train_00000001.jpg",),
    ),
    "coco-stuff-171": Miniature(
        **COCO,
        labels="annotations/val2017/{}_labelTrainIds.png",
        values=[*range(171), 255],
        class_index=lambda value: -1 if value == 255 else value,
    ),
    "coco-object-81": Miniature(
        **COCO,
        labels="annotations/val2017/{}_instanceTrainIds.png",
        values=list(range(81)),
        class_index=lambda value: value,
    ),
    "cityscapes-19": Miniature(
        folder="cityscapes",
        images="leftImg8bit/val/{}_leftImg8bit.png",
        labels="gtFine/val/{}_gtFine_labelTrainIds.png",
        values=[*range(19), 255],
        class_index=lambda value: -1 if value == 255 else value,
        names=("frankfurt/frankfurt_000001_000019", "lindau/lindau_000000_000019"),
        clutter=(
            "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png",
            "gtFine/val/lindau/lindau_000000_000019_gtFine_color.png",
        ),
    ),
    "camvid-11": Miniature(
        folder="CamVid",
        images="test/{}.png",
        labels="testannot/{}.png",
        values=list(range(12)),
        class_index=lambda value: -1 if value == 11 else value,
        names=("0001TP_008550", "Seq05VD_f00000"),
        clutter=("train/0001TP_006690.png",),
    ),
}


def write_image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "green").save(path)


def write_label(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image.putpalette(VOC_PALETTE)
    image.save(path)


def label_values(mini: Miniature, number: int) -> np.ndarray:
    """Return every value of the dataset in 3 rows, in a different order for each example."""
    return np.stack([np.roll(mini.values, number + row) for row in range(3)])


def write_miniature(name: str, root: Path) -> Path:
    """Write the miniature of a dataset and return its innermost folder."""
    mini = MINIATURES[name]
    folder = root / mini.folder
    for number, example in enumerate(mini.names):
        write_image(folder / mini.images.format(example), len(mini.values), 3)
        write_label(folder / mini.labels.format(example), label_values(mini, number), mini.palette)
    for path in mini.clutter:
        write_image(folder / path, 5, 5)
    if mini.split:
        split = folder / mini.split
        split.parent.mkdir(parents=True)
        split.write_text("".join(f"{example}\n" for example in mini.names))
    return folder


def write_scenes(folder: Path, seeds: Iterable[int]) -> Path:
    """Write synthetic scenes as a dataset of the kind "folder"."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for seed in seeds:
        scene = make_scene(seed)
        Image.fromarray(scene.pixels).save(folder / "images" / f"{seed}.png")
        Image.fromarray(scene.labels.astype(np.uint8)).save(folder / "labels" / f"{seed}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder
