"""The published datasets: pairs, their order and class indices follow the folders and encodings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniatures import MINIATURES, label_values
from ovsr_gpu.datasets import DATASETS, open_dataset
from ovsr_gpu.vocabulary import builtin_vocabulary


def test_every_dataset_has_a_miniature():
    assert {*MINIATURES, "msrc-23", "folder"} == set(DATASETS)


@pytest.mark.parametrize("name", MINIATURES)
def test_pairs_and_targets(build, name):
    mini, folder = MINIATURES[name], build(name)
    dataset = open_dataset(name, folder)
    assert dataset.name == name
    assert [example.source.name for example in dataset.examples] == list(mini.names)
    for number, example in enumerate(dataset.examples):
        assert example.source.path == folder / mini.images.format(mini.names[number])
        target = example.target()
        assert target.dtype == np.int32
        assert target.tolist() == np.vectorize(mini.class_index)(label_values(mini, number)).tolist()


@pytest.mark.parametrize("name", MINIATURES)
def test_classes_fit_the_vocabulary(build, name):
    dataset = open_dataset(name, build(name))
    assert dataset.vocabulary == builtin_vocabulary(name)
    seen = set(np.unique(dataset.examples[0].target())) - {-1}
    assert seen == set(range(len(dataset.vocabulary)))
    names = dataset.vocabulary.names
    assert dataset.background_index == (names.index("background") if "background" in names else None)


def test_expected_sizes(build):
    sizes = {name: open_dataset(name, build(name)).expected_size for name in ("voc21", "ade20k-150", "cityscapes-19")}
    assert sizes == {"voc21": 1449, "ade20k-150": 2000, "cityscapes-19": 500}


@pytest.mark.parametrize("name", MINIATURES)
def test_folder_above(build, tmp_path, name):
    inner = build(name)
    assert open_dataset(name, inner.parent).examples == open_dataset(name, inner).examples
    assert open_dataset(name, tmp_path).examples == open_dataset(name, inner).examples


def test_relative_folder(build, monkeypatch):
    monkeypatch.chdir(build("camvid-11"))
    assert open_dataset("camvid-11", ".").examples[0].source.path == Path("test/0001TP_008550.png")


@pytest.mark.parametrize("name", ["voc21", "cityscapes-19"])
def test_list_of_names(build, tmp_path, name):
    folder, names = build(name), MINIATURES[name].names
    (tmp_path / "names.txt").write_text(f"\ufeff{names[1]}\r\n\n{names[0]} \n", "utf-8")
    examples = open_dataset(name, folder, tmp_path / "names.txt").examples
    assert [example.source.name for example in examples] == [names[1], names[0]]
    (tmp_path / "names.txt").write_text(names[1])
    assert [example.source.name for example in open_dataset(name, folder, tmp_path / "names.txt").examples] == [
        names[1]
    ]


def test_palette_of_four_bits(build):
    """Pillow and other programs write small palettes in four bits; the indices are unchanged."""
    folder, mini = build("voc21"), MINIATURES["voc21"]
    path = folder / mini.labels.format(mini.names[0])
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.putpalette([0, 0, 0] * 12)
    image.save(path, bits=4)
    Image.new("RGB", (4, 3)).save(folder / mini.images.format(mini.names[0]))
    assert open_dataset("voc21", folder).examples[0].target().tolist() == np.arange(12).reshape(3, 4).tolist()


def test_image_turned_by_exif(build):
    """The target has the size of the upright image, which is the input of the segmenter."""
    folder, mini = build("ade20k-150"), MINIATURES["ade20k-150"]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 151)).save(folder / mini.images.format(mini.names[0]), exif=exif)
    assert open_dataset("ade20k-150", folder).examples[0].target().shape == (3, 151)
