"""Datasets that are incomplete or wrong: each raises one error that names what was expected and what was found."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from miniatures import MINIATURES, write_image, write_label
from ovsr_gpu.datasets import open_dataset
from ovsr_gpu.errors import DatasetError, ImageError


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"there is no dataset 'voc'; the datasets are voc20, .*, msrc-23, folder"):
        open_dataset("voc", tmp_path)


@pytest.mark.parametrize("name", MINIATURES)
def test_empty_folder(tmp_path, name):
    mini = MINIATURES[name]
    with pytest.raises(DatasetError) as caught:
        open_dataset(name, tmp_path)
    message = str(caught.value)
    images = (tmp_path / mini.images.format("NAME")).parent
    if name == "cityscapes-19":
        images = tmp_path / "leftImg8bit/val"
    assert message.startswith(f"there is no {str(images)!r}; expected in {tmp_path} or ")
    assert f"\n    {mini.images.format('NAME')}\n    {mini.labels.format('NAME')}\n" in message
    assert mini.split is None or f"\n    {mini.split} (one NAME per line)\n" in message
    assert mini.folder in message


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("voc21", "SegmentationClass"),
        ("voc21", "ImageSets/Segmentation/val.txt"),
        ("context-59", "SegmentationClassContext"),
        ("ade20k-150", "annotations/validation"),
        ("coco-stuff-171", "annotations/val2017"),
        ("cityscapes-19", "gtFine/val"),
        ("camvid-11", "testannot"),
    ],
)
def test_part_missing(build, tmp_path, name, moved):
    folder = build(name)
    (folder / moved).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=f"^there is no {re.escape(repr(str(folder / moved)))}; expected in "):
        open_dataset(name, folder)


def test_two_folders_that_may_be_meant(build, tmp_path):
    folder = build("coco-object-81")
    (tmp_path / "coco_object/images/val2017").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"^both '.*coco_object' and '.*coco_stuff164k' match the dataset; specify"):
        open_dataset("coco-object-81", tmp_path)
    assert len(open_dataset("coco-object-81", folder).examples) == 2


@pytest.mark.parametrize("name", MINIATURES)
@pytest.mark.parametrize("kind", ["image", "label map"])
def test_without_counterpart(build, tmp_path, name, kind):
    mini, folder = MINIATURES[name], build(name)
    path = folder / (mini.images if kind == "image" else mini.labels).format(mini.names[1])
    path.unlink()
    message = f"^the example {mini.names[1]!r} has no {kind}: there is no {re.escape(repr(str(path)))}; add it, or "
    with pytest.raises(DatasetError, match=message):
        open_dataset(name, folder)
    (tmp_path / "names.txt").write_text(mini.names[0])
    assert len(open_dataset(name, folder, tmp_path / "names.txt").examples) == 1


def test_label_maps_not_converted(build):
    folder = build("coco-stuff-171")
    for path in folder.glob("annotations/val2017/*_labelTrainIds.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"'000000000139' has no label map(.|\n)*converters/coco_stuff164k.py"):
        open_dataset("coco-stuff-171", folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; write one name per line"),
        (b"\xff\n", "cannot be read: .*utf-8"),
        (b"a\nb\na\n", "the name 'a' occurs twice in "),
        (
            b"0001TP_008550\nx.png\ny\n",
            "2 of the 3 requested names .* the first is 'x.png'; names have the form '0001TP_008550'",
        ),
    ],
)
def test_list_of_names(build, tmp_path, content, message):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset("camvid-11", build("camvid-11"), tmp_path / "names.txt")


def test_list_of_names_missing(build, tmp_path):
    with pytest.raises(DatasetError, match=r"list of names '.*names.txt' cannot be read: .*No such file"):
        open_dataset("camvid-11", build("camvid-11"), tmp_path / "names.txt")


OUT_OF_RANGE = {
    "voc20": (21, "classes are 1 to 20, void is 0, 255"),
    "voc21": (21, "classes are 0 to 20, void is 255"),
    "context-59": (60, "classes are 1 to 59, void is 0, 255"),
    "context-60": (60, "classes are 0 to 59, void is 255"),
    "ade20k-150": (151, "classes are 1 to 150, void is 0, 255"),
    "coco-stuff-171": (171, "classes are 0 to 170, void is 255"),
    "coco-object-81": (255, "classes are 0 to 80, void is no value"),
    "cityscapes-19": (33, "classes are 0 to 18, void is 255"),
    "camvid-11": (12, "classes are 0 to 10, void is 11"),
}


@pytest.mark.parametrize("name", MINIATURES)
def test_value_out_of_range(build, name):
    value, encoding = OUT_OF_RANGE[name]
    mini, folder = MINIATURES[name], build(name)
    values = np.full((3, len(mini.values)), 11, dtype=np.uint8)
    values[1, 7] = values[2, 0] = value
    path = folder / mini.labels.format(mini.names[0])
    write_label(path, values)
    message = f"the label map {str(path)!r} cannot be used: it holds {value} in row 1, column 7; {encoding}; use "
    with pytest.raises(DatasetError, match=re.escape(message)):
        open_dataset(name, folder).examples[0].target()


@pytest.mark.parametrize("name", MINIATURES)
def test_label_map_of_another_size(build, name):
    mini, folder = MINIATURES[name], build(name)
    write_image(folder / mini.images.format(mini.names[0]), 4, 9)
    with pytest.raises(
        DatasetError, match=rf"has {len(mini.values)} x 3 pixels, the image '.*' 4 x 9; they must have the same size"
    ):
        open_dataset(name, folder).examples[0].target()


def gray_of_four_bits(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"\0" + b"\x11" * -(-width // 2)
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows * height))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["RGB", "1", "I;16", "LA", "L;4"])
def test_label_map_of_another_kind(build, mode):
    mini, folder = MINIATURES["voc21"], build("voc21")
    path = folder / mini.labels.format(mini.names[0])
    if mode == "L;4":
        path.write_bytes(gray_of_four_bits(22, 3))
    else:
        Image.new(mode, (22, 3)).save(path)
    message = f"the label map {str(path)!r} must be an 8-bit gray or palette PNG whose values are the classes; "
    with pytest.raises(DatasetError, match=re.escape(f"{message}its mode is {mode}; convert it")):
        open_dataset("voc21", folder).examples[0].target()


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_broken_file(build, kind):
    mini, folder = MINIATURES["voc21"], build("voc21")
    path = folder / getattr(mini, kind).format(mini.names[0])
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ImageError, match=re.escape(f"cannot read {str(path)!r}: ")):
        open_dataset("voc21", folder).examples[0].target()
