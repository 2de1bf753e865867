"""The user's own folders and MSRC v2: the meaning of label values, rejected input, and real images of both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from miniatures import write_image, write_label
from ovsr_gpu import Vocabulary
from ovsr_gpu.datasets import open_dataset
from ovsr_gpu.errors import DatasetError, VocabularyError
from ovsr_gpu.vocabulary import builtin_vocabulary

VALUES = np.array([[0, 1, 2], [2, 255, 0]])
MSRC = {"classes": ["void", *builtin_vocabulary("msrc-23").names], "void": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for image, label in (("b.JPG", "b.png"), ("a.webp", "a.png"), ("street/c.png", "street/c.png")):
        write_image(tmp_path / "images" / image, 3, 2)
        write_label(tmp_path / "labels" / label, VALUES)
    (tmp_path / "images/notes.md").write_text("not an image")
    write_image(tmp_path / "images/.trash/old.png", 3, 2)
    (tmp_path / "classes.txt").write_text("# ours\ndog\ngrass, lawn\nsky\n")
    return tmp_path


def write_classes_json(folder: Path, content: object) -> None:
    (folder / "classes.txt").unlink(missing_ok=True)
    (folder / "classes.json").write_text(json.dumps(content))


def test_classes_as_text(folder):
    dataset = open_dataset("folder", folder)
    assert dataset.vocabulary == Vocabulary.parse("dog; grass, lawn; sky")
    assert (dataset.background_index, dataset.expected_size) == (None, None)
    assert [example.source.name for example in dataset.examples] == ["a", "b", "street/c"]
    assert [example.target().tolist() for example in dataset.examples] == [[[0, 1, 2], [2, -1, 0]]] * 3


@pytest.mark.parametrize(
    ("void", "names", "row"),
    [
        (0, ("dog", "sky"), [-1, 0, 1]),
        (1, ("nothing", "sky"), [0, -1, 1]),
        (2, ("nothing", "dog"), [0, 1, -1]),
    ],
)
def test_classes_as_json(folder, void, names, row):
    write_classes_json(folder, {"classes": ["nothing", "dog", "sky"], "void": void})
    write_label(folder / "labels/a.png", np.array([[0, 1, 2]] * 2))
    dataset = open_dataset("folder", folder)
    assert dataset.vocabulary.names == names
    assert dataset.examples[0].target().tolist() == [row] * 2
    with pytest.raises(DatasetError, match="it holds 255 in row 1, column 1; classes are "):
        dataset.examples[1].target()


def test_255_classes(folder):
    (folder / "classes.txt").write_text("\n".join(f"class {number}" for number in range(255)))
    write_label(folder / "labels/a.png", np.array([[0, 254, 255]] * 2))
    assert open_dataset("folder", folder).examples[0].target().tolist() == [[0, 254, -1]] * 2
    (folder / "classes.txt").write_text("\n".join(f"class {number}" for number in range(256)))
    with pytest.raises(DatasetError, match="has 256 classes; 8-bit label maps allow 255, because 255 is void"):
        open_dataset("folder", folder)


def test_msrc(folder):
    write_classes_json(folder, MSRC)
    write_label(folder / "labels/a.png", np.array([[0, 1, 23]] * 2))
    dataset = open_dataset("msrc-23", folder)
    assert dataset.vocabulary == builtin_vocabulary("msrc-23")
    assert dataset.expected_size == 591
    assert dataset.examples[0].target().tolist() == [[-1, 0, 22]] * 2


@pytest.mark.parametrize(
    "content",
    [{**MSRC, "void": 3}, {**MSRC, "classes": MSRC["classes"][:-1]}, {**MSRC, "classes": MSRC["classes"][::-1]}],
)
def test_msrc_with_other_classes(folder, content):
    write_classes_json(folder, content)
    with pytest.raises(DatasetError, match=r"must have the void value 0 and then building, .*; it has the void value"):
        open_dataset("msrc-23", folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "TypeError"),
        ({"classes": ["dog"]}, "KeyError: 'void'"),
        ({"classes": ["dog", "sky"], "void": 2}, "void is 2, with 2 classes"),
        ({"classes": ["dog", "sky"], "void": True}, "void is True"),
        ({"classes": ["dog", 7], "void": 0}, "the classes are not a list of names"),
        ({"classes": {"dog": 0}, "void": 0}, "the classes are not a list of names"),
        ({"classes": ["c"] * 257, "void": 0}, "void is 0, with 257 classes"),
    ],
)
def test_invalid_classes_json(folder, content, message):
    write_classes_json(folder, content)
    with pytest.raises(DatasetError, match=rf'classes.json\' must hold {{"classes": \[name of each .*{message}'):
        open_dataset("folder", folder)


def test_no_or_two_files_of_classes(folder):
    (folder / "classes.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"one of classes.txt and classes.json must be in .*; both are there"):
        open_dataset("folder", folder)
    (folder / "classes.json").unlink()
    with pytest.raises(VocabularyError, match=r"classes.json cannot be read: No such file"):
        open_dataset("msrc-23", folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(DatasetError, match=r"one of classes.txt and classes.json must be in .*; neither is there"):
        open_dataset("folder", folder)


def test_empty_vocabulary(folder):
    (folder / "classes.txt").write_text("# to do\n")
    with pytest.raises(VocabularyError, match="contains no class"):
        open_dataset("folder", folder)


@pytest.mark.parametrize("name", ["folder", "msrc-23"])
def test_missing_folders(tmp_path, name):
    with pytest.raises(DatasetError) as caught:
        open_dataset(name, tmp_path)
    assert str(caught.value).startswith(f"there is no {str(tmp_path / 'images')!r}; expected in {tmp_path}:")
    assert "\n    images/NAME.*\n    labels/NAME.png\n" in str(caught.value)


def test_empty_folders(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "classes.txt").write_text("dog")
    with pytest.raises(DatasetError, match="there are neither images nor label maps in "):
        open_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("labels/street/c.png", "the example 'street/c' has no label map: there is no "),
        ("images/b.JPG", "the example 'b' has no image: there is no "),
    ],
)
def test_without_counterpart(folder, removed, message):
    (folder / removed).unlink()
    with pytest.raises(DatasetError, match=message):
        open_dataset("folder", folder)


def test_two_images_with_the_same_name(folder):
    write_image(folder / "images/a.png", 3, 2)
    with pytest.raises(DatasetError, match=r"'.*a\.\w+' and '.*a\.\w+' have the same name; remove one of them"):
        open_dataset("folder", folder)


def counts(examples) -> dict[int, int]:
    values, pixels = np.unique(np.concatenate([example.target().ravel() for example in examples]), return_counts=True)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def test_real_msrc(assets):
    root = assets / "msrc_v2"
    held_out = open_dataset("msrc-23", root, root / "heldout_100.txt")
    assert [example.source.name for example in held_out.examples[:3]] == ["1_2_s", "1_8_s", "1_15_s"]
    assert len(held_out.examples) == 100
    dataset = open_dataset("msrc-23", root)
    assert len(dataset.examples) == 340
    pixels = counts(dataset.examples)
    assert set(pixels) == set(range(-1, 23))
    assert {index: pixels[index] for index in (-1, 0, 4, 22)} == {-1: 4450649, 0: 1860986, 4: 2212, 22: 130856}


def test_real_camvid(assets, tmp_path):
    """The same frames as a folder with classes.json and, through links, in the layout of SegNet."""
    root = assets / "camvid_test"
    (tmp_path / "test").symlink_to(root / "images")
    (tmp_path / "testannot").symlink_to(root / "labels")
    camvid, plain = open_dataset("camvid-11", tmp_path), open_dataset("folder", root)
    assert len(camvid.examples) == 59
    assert camvid.vocabulary == plain.vocabulary
    pixels = counts(camvid.examples)
    assert pixels == counts(plain.examples)
    assert set(pixels) == set(range(-1, 11))
    assert {index: pixels[index] for index in (-1, 0, 10)} == {-1: 390908, 0: 1731940, 10: 13383}


def test_order_of_real_list(assets):
    root = assets / "camvid_test"
    names = (root / "holdout_split.txt").read_text().split()
    examples = open_dataset("folder", root, root / "holdout_split.txt").examples
    assert [example.source.name for example in examples] == names
    assert all(re.fullmatch(r"\w+\.png", Path(example.source.path).name) for example in examples)
