"""Vocabularies from files of every format, rejected files, and the built-in vocabularies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

import ovsr_gpu
from ovsr_gpu import Vocabulary, VocabularyError
from ovsr_gpu.vocabulary import BUILTIN_VOCABULARIES, builtin_vocabulary, read_vocabulary

BOTTLES = Vocabulary((("milk bottle", "glass bottle, empty"), ("bottle cap",)), ("bottle", "cap"))
PROMPT_TO_LABEL = {"milk bottle": "bottle", "bottle cap": "cap", "glass bottle, empty": "bottle"}
LABEL_TO_PROMPTS = {"bottle": ["milk bottle", "glass bottle, empty"], "cap": ["bottle cap"]}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(PROMPT_TO_LABEL)),
        ("a.JSON", json.dumps(LABEL_TO_PROMPTS, indent="\t")),
        ("a.yaml", "milk bottle: bottle\nbottle cap: cap\nglass bottle, empty: bottle\n"),
        ("a.yml", "# what we look for\nbottle:\n- milk bottle\n- glass bottle, empty\ncap: [bottle cap]\n"),
        (
            "a.yaml",
            b"\xef\xbb\xbf" + b"  milk  bottle : bottle\r\n  bottle cap: ' cap '\r\n  glass bottle, empty: bottle",
        ),
    ],
)
def test_maps(tmp_path: Path, name, content):
    vocabulary = read_vocabulary(write(tmp_path, name, content))
    assert vocabulary == BOTTLES
    assert vocabulary.names == ("bottle", "cap")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '["dog", "grass, green  lawn", "sky"]'),
        ("a.json", '["dog", ["grass", "green lawn"], "sky"]'),
        ("a.yaml", "- dog\n- grass, green lawn\n- sky\n"),
        ("a.yml", "[dog, [grass, green lawn], sky]"),
        ("a.txt", "dog\ngrass, green lawn\nsky\n"),
        ("a.txt", "# classes\ndog\ngrass; green lawn\nsky"),
        ("a.txt", "dog\r\ngrass;green lawn\r\nsky"),
    ],
)
def test_lists(tmp_path: Path, name, content):
    assert read_vocabulary(write(tmp_path, name, content)) == Vocabulary.parse("dog; grass, green lawn; sky")


def test_other_languages(tmp_path: Path):
    expected = Vocabulary((("柴犬", "秋田犬"), ("été 😀",)), ("犬", "saison"))
    assert read_vocabulary(write(tmp_path, "a.yaml", "犬: [柴犬, 秋田犬]\nsaison: [été 😀]")) == expected
    assert (
        read_vocabulary(write(tmp_path, "a.json", json.dumps({"犬": ["柴犬", "秋田犬"], "saison": ["été 😀"]})))
        == expected
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "", "contains no class"),
        ("a.yaml", "# nothing\n", "contains no class"),
        ("a.yaml", "[]", "contains no class"),
        ("a.json", " \n", "contains no class"),
        ("a.json", "{}", "contains no class"),
        ("a.txt", "", "contains no class"),
        ("a.yaml", "été: saison".encode("latin-1"), r"not UTF-8 \(byte 0, line 1\)"),
        ("a.json", '["été"]'.encode("latin-1"), r"not UTF-8 \(byte 2, line 1\)"),
        ("a.txt", "dog\nété".encode("latin-1"), r"not UTF-8 \(byte 4, line 2\)"),
        ("a.yaml", "dog: [cat", "not valid YAML: .*line 1, column 10"),
        ("a.yaml", "- dog\n- 2024-99-99\n", "not valid YAML: month must be"),
        ("a.yaml", "- !!python/name:os.system\n", "not valid YAML: could not determine a constructor"),
        ("a.json", '{"dog": "animal",}', "not valid JSON: .*line 1 column"),
        ("a.yaml", "dog", "must contain a list or a map; it contains 'dog'"),
        ("a.json", "7", "must contain a list or a map; it contains 7"),
        ("a.toml", "", "must end in .txt, .yaml, .yml or .json"),
        ("a.yaml", "- dog\n- no\n", "entry 2 of .* contains False, which is not text; put it in quotes"),
        ("a.yaml", "- dog\n- [cat, 7]\n", "entry 2 of .* contains 7, which is not text"),
        ("a.yaml", "- dog\n- cat: animal\n", r"entry 2 of .* contains \(\('cat', 'animal'\),\), which is not text"),
        ("a.yaml", "- dog\n- [grass, Dog]\n", r"'Dog' occurs twice, in entry 1 of .* and in entry 2 of "),
        ("a.yaml", "- dog\n- []\n", "entry 2 of .* has an empty name"),
        ("a.yaml", "- dog\n- a;b\n", "entry 2 of .* contains 'a;b'"),
        ("a.yaml", "dog: animal\nsky:\n", "the entry 'sky' of .* contains None, which is not text"),
        (
            "a.yaml",
            "dog: animal\nno: thing\n",
            "the entry False of .* contains False, which is not text; put it in quotes",
        ),
        (
            "a.yaml",
            "dog: animal\nsky: [blue sky]\n",
            r"the entry 'sky' of .* contains \['blue sky'\]; the values of a map",
        ),
        (
            "a.json",
            '{"sky": ["blue sky"], "dog": "animal"}',
            "the entry 'dog' of .* contains 'animal'; the values of a map",
        ),
        ("a.json", '{"dog": {"a": "b"}}', "the entry 'dog' of .* contains .* not text"),
        ("a.yaml", "sky: [blue sky, 7]\n", "the entry 'sky' of .* contains 7, which is not text"),
        ("a.yaml", "sky: []\n", "the class 'sky' of .* has an empty name"),
        ("a.yaml", "dog: ''\n", "the class '' of .* has an empty name"),
        (
            "a.yaml",
            "dog: animal\nsky: up\ndog: pet\n",
            "'dog' occurs twice, in the class 'animal' of .* and in the class 'pet'",
        ),
        ("a.json", '{"dog": "animal", "dog": "animal"}', "'dog' occurs twice, in the class 'animal' of "),
        ("a.json", '{"sky": ["blue"], "sky": ["gray"]}', "the label 'sky' occurs twice in "),
        ("a.yaml", "sky: [blue]\nSky: [gray]\n", "'Sky' occurs twice, in the class 'sky' of .* and in the class 'Sky'"),
        ("a.yaml", "dog: Something else\n", "the class 'Something else' of .* is reserved"),
    ],
)
def test_refused(tmp_path: Path, name, content, message):
    with pytest.raises(VocabularyError, match=message) as caught:
        read_vocabulary(write(tmp_path, name, content))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.yaml", "absent.json", "absent.txt"])
def test_missing_file(tmp_path: Path, name):
    with pytest.raises(VocabularyError, match="cannot be read: No such file"):
        read_vocabulary(tmp_path / name)


BUILTIN = {name: builtin_vocabulary(name) for name in BUILTIN_VOCABULARIES}


@pytest.mark.parametrize(
    ("name", "count", "fixed"),
    [
        ("voc20", 20, {0: "aeroplane", 7: "cat", 14: "person", 19: "tvmonitor"}),
        ("voc21", 21, {0: "background", 8: "cat", 15: "person", 20: "tvmonitor"}),
        ("context-59", 59, {0: "aeroplane", 3: "bedclothes", 36: "person", 49: "table", 58: "wood"}),
        ("cityscapes-19", 19, {0: "road", 6: "traffic light", 11: "person", 13: "car", 18: "bicycle"}),
        ("coco-80", 80, {0: "person", 11: "stop sign", 55: "cake", 79: "toothbrush"}),
        ("coco-stuff-171", 171, {80: "banner", 122: "moss", 143: "sea", 170: "wood"}),
        ("ade20k-150", 150, {0: "wall", 12: "person", 74: "computer", 89: "television receiver", 149: "flag"}),
        ("camvid-11", 11, {0: "sky", 3: "road", 6: "sign", 10: "bicyclist"}),
        ("msrc-23", 23, {0: "building", 4: "horse", 7: "mountain", 22: "boat"}),
    ],
)
def test_builtin_vocabularies(name, count, fixed):
    vocabulary = BUILTIN[name]
    assert len(vocabulary) == len(set(vocabulary.names)) == count
    assert vocabulary.synonyms == tuple((one,) for one in vocabulary.names), "plain names"
    assert {place: vocabulary.names[place] for place in fixed} == fixed


def test_builtin_vocabularies_agree_with_torchvision():
    coco = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    assert BUILTIN["coco-80"].names == tuple(name for name in coco if name not in ("__background__", "N/A"))
    voc = DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"]
    assert BUILTIN["voc21"].names == ("background", *voc[1:])


def test_builtin_vocabularies_agree_with_each_other():
    for whole, objects in (("voc21", "voc20"), ("context-60", "context-59"), ("coco-object-81", "coco-80")):
        assert BUILTIN[whole].names == ("background", *BUILTIN[objects].names)
    assert BUILTIN["coco-stuff-171"].names[:80] == BUILTIN["coco-80"].names
    assert BUILTIN["coco-stuff-171"].names[80:] == tuple(sorted(BUILTIN["coco-stuff-171"].names[80:]))
    assert BUILTIN["context-59"].names == tuple(sorted(BUILTIN["context-59"].names))


@pytest.mark.parametrize("name", ["voc20", "voc21", "coco-object-81"])
def test_other_prompts_for_the_same_classes(name):
    sclip, plain = BUILTIN[f"{name}-sclip"], BUILTIN[name]
    assert sclip.names == plain.names
    assert sclip != plain
    person = plain.names.index("person")
    assert sclip.synonyms[person][:2] == ("person", "person in shirt")
    if plain.names[0] == "background":
        prompts = sclip.synonyms[0]
        assert (prompts[0], prompts[-1], len(prompts)) == ("sky", "fence", 26 - (name == "coco-object-81"))


def test_every_file_is_offered():
    files = list((Path(ovsr_gpu.__file__).parent / "vocabularies").iterdir())
    assert {file.stem for file in files} == set(BUILTIN_VOCABULARIES)
    assert all(file.read_text("utf-8").startswith("# ") for file in files), "the first line says where the list is from"


def test_no_such_vocabulary():
    with pytest.raises(VocabularyError, match=r"no vocabulary '\.\./voc20'; choose one of voc20, voc21, "):
        builtin_vocabulary("../voc20")
