"""Vocabularies: parsing, rejected input, and text embeddings against a plain loop."""

from __future__ import annotations

import os
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg

from ovsr_gpu.config import RecognitionConfig
from ovsr_gpu.errors import VocabularyError
from ovsr_gpu.models import text_cache
from ovsr_gpu.models.clip import ClipModel, load_clip
from ovsr_gpu.runtime.timing import record_stages
from ovsr_gpu.stages.text_embeddings import embed_vocabulary
from ovsr_gpu.vocabulary import Vocabulary, read_classes_file

EXPECTED = (("dog",), ("grass", "green lawn"), ("sky",))


@pytest.mark.parametrize(
    "classes",
    [
        "dog; grass, green lawn; sky",
        "dog;grass,green lawn;sky;",
        "  dog ;\tgrass ,  green \t lawn;sky ; ",
        "dog\ngrass, green lawn\nsky\n",
        "\n\ndog;\r\n\r\n  grass, green lawn; sky\n",
        ["dog", "grass, green lawn", "sky"],
        ("dog", ("grass", "green  lawn"), ["sky"]),
        Vocabulary(EXPECTED),
    ],
)
def test_every_way_of_writing_a_vocabulary(classes):
    vocabulary = Vocabulary.parse(classes)
    assert vocabulary.synonyms == EXPECTED
    assert vocabulary.names == ("dog", "grass", "sky")
    assert len(vocabulary) == 3
    assert hash(vocabulary) == hash(Vocabulary(EXPECTED))


def test_other_languages_and_punctuation():
    names = "Straße; 犬; كلب; сад; l'herbe; traffic-light (red); 50% gray {}; می‌خواهم"
    assert Vocabulary.parse(names).names == tuple(names.split("; "))


NAME = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters=",;"), min_size=1)


@settings(deadline=None)
@given(st.lists(st.lists(NAME, min_size=1, max_size=3), min_size=1, max_size=4))
def test_text_and_sequences_agree(rows):
    def parsed(classes):
        try:
            return Vocabulary.parse(classes)
        except VocabularyError as error:
            return str(error)

    assert parsed("; ".join(", ".join(row) for row in rows)) == parsed(rows) == parsed([", ".join(row) for row in rows])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("", "empty; give at least one class"),
        ("  \n ", "empty; give at least one class"),
        ([], "empty; give at least one class"),
        ("dog;;sky", "class 2 has an empty name"),
        (";dog", "class 1 has an empty name"),
        ("dog; grass,,lawn", "class 2 has an empty name in 'grass, , lawn'"),
        ("dog, ;sky", "class 1 has an empty name"),
        (["dog", ""], "class 2 has an empty name"),
        (["dog", ()], "class 2 has an empty name"),
        ("dog; sky; Dog", r"'Dog' occurs twice, in class 1 \('dog'\) and in class 3"),
        ("dog; grass, lawn; sky, LAWN", r"'LAWN' occurs twice, in class 2 \('grass'\) and in class 3"),
        ("dog, dog", r"'dog' occurs twice, in class 1 \('dog'\) and in class 1"),
        ("STRASSE; Straße", "occurs twice"),
        ("caf\u00e9; cafe\u0301", "occurs twice"),
        ("dog; Something  Else", "class 2 is 'Something Else', which is reserved"),
        ("dog; thing, something else", "class 2 is 'something else', which is reserved"),
        ("dog; s\x00ky", "class 2 contains 's.x00ky'.*control characters"),
        ("dog; s\x1b[0m", "control characters"),
        ("dog; s\ud800", "lone surrogates"),
        (["dog; sky"], "class 1 contains 'dog; sky'.*';'"),
        (["dog", 7], "class 2 must be a name or a sequence of names; got 7"),
        ([["dog", None]], "class 1 must be a name or a sequence"),
        (7, "must be a string or a sequence of names; got int"),
        ({"dog"}, "must be a string or a sequence of names; got set"),
    ],
)
def test_refused(classes, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.parse(classes)


def test_class_names_other_than_the_first_synonyms():
    vocabulary = Vocabulary((("milk bottle", "glass bottle"), ("cap",)), ("bottle", "Cap"))
    assert vocabulary.names == ("bottle", "Cap")
    assert vocabulary.synonyms == (("milk bottle", "glass bottle"), ("cap",))
    assert Vocabulary.parse(vocabulary) is vocabulary
    assert vocabulary != Vocabulary(vocabulary.synonyms)

    spelt_out = Vocabulary(EXPECTED, ("dog", "grass", "sky"))
    assert spelt_out == Vocabulary(EXPECTED)
    assert hash(spelt_out) == hash(Vocabulary(EXPECTED))
    Vocabulary((("pet",), ("cat",)), ("dog", "pet"))  # a name may be a synonym of another class


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("dog",), "a name for each of 3 classes; got 1"),
        (("dog", "lawn", "Dog"), r"'Dog' occurs twice, in class 1 \('dog'\) and in class 3"),
        (("dog", "", "sky"), "class 2 has an empty name"),
        (("dog", "something else", "sky"), "class 2 is 'something else', which is reserved"),
        (("dog", "a;b", "sky"), "class 2 contains 'a;b'"),
    ],
)
def test_refused_names(names, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary(EXPECTED, names)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_classes_file(tmp_path: Path, bom, end):
    lines = ["# what we look for", "dog", "", "  grass ,  green lawn  ", "   # more", "sky", "été, 夏"]
    (tmp_path / "classes.txt").write_bytes(bom + end.join(lines).encode())
    assert read_classes_file(tmp_path / "classes.txt").synonyms == (*EXPECTED, ("été", "夏"))


def test_classes_file_with_either_separator(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("dog\nsky, blue sky\nperson; person, sitting;rider\n")
    rows = read_classes_file(tmp_path / "classes.txt").synonyms
    assert rows == (("dog",), ("sky", "blue sky"), ("person", "person, sitting", "rider"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog\nété\n".encode("latin-1"), r"is not UTF-8 \(byte 4, line 2\); save it as UTF-8"),
        ("dog\n".encode("utf-16"), r"is not UTF-8 \(byte 0, line 1\); save it as UTF-8"),
        ("dog\ncat\n".encode("utf-16-le"), "control characters"),
        (b"", "contains no class"),
        (b"# only a comment\n\n", "contains no class"),
        (b"# first\ndog\n\nsky\nDog\n", r"'Dog' occurs twice, in line 2 of .*\('dog'\) and in line 5 of "),
        (b"dog\nsky,\n", "line 2 of .* has an empty name"),
        (b"dog\nsky;\n", "line 2 of .* has an empty name"),
        (b"dog\nsky; blue, sky;sky\n", "'sky' occurs twice, in line 2 of "),
    ],
)
def test_refused_classes_file(tmp_path: Path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        read_classes_file(tmp_path / "classes.txt")
    assert "classes.txt" in str(caught.value)


def test_missing_classes_file(tmp_path: Path):
    with pytest.raises(VocabularyError, match=r"absent\.txt cannot be read: No such file"):
        read_classes_file(tmp_path / "absent.txt")
    with pytest.raises(VocabularyError, match="cannot be read"):
        read_classes_file(tmp_path)


class CountingClip(ClipModel):
    """A tiny random CLIP that records the prompts it encodes."""

    def __init__(self) -> None:
        vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
        text = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            module = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
        module.visual.preprocess_cfg = vars(PreprocessCfg(size=32))
        super().__init__("tiny", module, open_clip.SimpleTokenizer(context_length=40), torch.device("cpu"), text)
        self.encoded: list[list[str]] = []

    def encode_text(self, prompts):
        self.encoded.append(list(prompts))
        return super().encode_text(prompts)


@pytest.fixture(scope="module")
def shared_clip() -> CountingClip:
    return CountingClip()


@pytest.fixture
def clip(shared_clip: CountingClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingClip:
    """The tiny CLIP with an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    shared_clip.encoded.clear()
    return shared_clip


def embedded(clip: ClipModel, vocabulary: Vocabulary, config: RecognitionConfig) -> torch.Tensor:
    return embed_vocabulary(clip, vocabulary, config).embeddings


def plain_loop(clip: CountingClip, texts_by_class: list[list[str]]) -> torch.Tensor:
    """One prompt at a time, in float64, straight from the network."""
    tokenizer = open_clip.SimpleTokenizer(context_length=40)
    rows = []
    for texts in texts_by_class:
        total = torch.zeros(16, dtype=torch.float64)
        for text in texts:
            vector = clip._module.encode_text(tokenizer([text]))[0].double()
            total += vector / vector.square().sum().sqrt()
        rows.append(total / total.square().sum().sqrt())
    return torch.stack(rows)


def test_imagenet_templates_against_a_plain_loop(clip: CountingClip):
    found = embedded(clip, Vocabulary.parse("dog; grass, green lawn"), RecognitionConfig())
    assert len(open_clip.OPENAI_IMAGENET_TEMPLATES) == 80
    expected = plain_loop(
        clip,
        [
            [template("dog") for template in open_clip.OPENAI_IMAGENET_TEMPLATES],
            [template(name) for name in ("grass", "green lawn") for template in open_clip.OPENAI_IMAGENET_TEMPLATES],
            ["something else"],
        ],
    )
    assert found.shape == (3, 16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_embeddings_depend_on_the_synonyms_alone(clip: CountingClip):
    config = RecognitionConfig(templates=("a {}",))
    plain = embedded(clip, Vocabulary.parse("milk bottle, glass bottle; cap"), config)
    clip.encoded.clear()
    named = Vocabulary((("milk bottle", "glass bottle"), ("cap",)), ("cap", "bottle"))
    assert torch.equal(embedded(clip, named, config), plain)
    assert clip.encoded == []


def test_custom_templates_and_prompts_against_a_plain_loop(clip: CountingClip):
    config = RecognitionConfig(templates=("a {} here", "{x} {}: {}"), something_else=("other things", "a background"))
    found = embedded(clip, Vocabulary.parse("dog; {0}"), config)
    expected = plain_loop(
        clip,
        [
            ["a dog here", "{x} dog: dog"],
            ["a {0} here", "{x} {0}: {0}"],
            ["other things", "a background"],
        ],
    )
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_synonyms_max_gives_each_synonym_and_prompt_a_text(clip: CountingClip):
    config = RecognitionConfig(templates=("a {}", "the {}"), synonyms="max", something_else=("other things", "a wall"))
    found = embed_vocabulary(clip, Vocabulary.parse("dog, hound, puppy; sky; grass, lawn"), config)
    words = ["dog", "hound", "puppy", "sky", "grass", "lawn"]
    expected = plain_loop(clip, [*([f"a {word}", f"the {word}"] for word in words), ["other things"], ["a wall"]])
    torch.testing.assert_close(found.embeddings.double(), expected, rtol=0, atol=1e-6)
    assert found.class_index.tolist() == [0, 0, 0, 1, 2, 2, 3, 3] and found.num_classes == 3
    mean = embed_vocabulary(clip, Vocabulary.parse("dog, hound; sky"), RecognitionConfig(something_else=()))
    assert mean.class_index.tolist() == [0, 1] and mean.num_classes == 2


def test_cached_classes_are_not_encoded_again(clip: CountingClip):
    config = RecognitionConfig(templates=("a {}", "the {}"))
    first = embedded(clip, Vocabulary.parse("dog; grass, lawn"), config)
    assert len(clip.encoded) == 3

    clip.encoded.clear()
    assert torch.equal(embedded(clip, Vocabulary.parse("dog; grass, lawn"), config), first)
    assert clip.encoded == []

    more = embedded(clip, Vocabulary.parse("sky; grass, lawn; dog"), config)
    assert clip.encoded == [["a sky", "the sky"]]
    assert torch.equal(more[1:], first[[1, 0, 2]])

    clip.encoded.clear()
    embedded(clip, Vocabulary.parse("lawn, grass; dog"), RecognitionConfig(templates=("a {}",)))
    assert clip.encoded == [["a lawn", "a grass"], ["a dog"]], "other names or templates are other embeddings"


def test_a_damaged_cache_file_is_encoded_again(clip: CountingClip):
    config = RecognitionConfig(templates=("a {}",))
    first = embedded(clip, Vocabulary.parse("dog; sky"), config)
    damaged = text_cache.cache_folder() / f"{text_cache.cache_key(clip, ['a sky'])}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    clip.encoded.clear()
    assert torch.equal(embedded(clip, Vocabulary.parse("dog; sky"), config), first)
    assert clip.encoded == [["a sky"]]
    clip.encoded.clear()
    embedded(clip, Vocabulary.parse("dog; sky"), config)
    assert clip.encoded == []


def test_an_unwritable_cache_changes_nothing(clip: CountingClip, tmp_path: Path, monkeypatch, caplog):
    config = RecognitionConfig(templates=("a {}",))
    expected = embedded(clip, Vocabulary.parse("dog"), config)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    text_cache._warn_once.cache_clear()
    assert torch.equal(embedded(clip, Vocabulary.parse("dog"), config), expected)
    assert len(caplog.records) == 1


def test_a_row_does_not_depend_on_the_rest_of_the_vocabulary(clip: CountingClip, tmp_path: Path, monkeypatch):
    config = RecognitionConfig(templates=("a {}", "the {}", "one {}"))
    together = embedded(clip, Vocabulary.parse("sky; dog, hound; tree"), config)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    assert torch.equal(embedded(clip, Vocabulary.parse("dog, hound"), config)[0], together[1])


def test_over_long_name(clip: CountingClip):
    config = RecognitionConfig(templates=("{}", "a big {}"))
    fits, too_long = " ".join(["dog"] * 36), " ".join(["dog"] * 37)  # with "a big", start and end: 40 and 41 tokens
    embedded(clip, Vocabulary.parse(["sky", fits]), config)
    with pytest.raises(VocabularyError, match=r"the class 'dog dog.*fit the 40 tokens.*shorten") as caught:
        embedded(clip, Vocabulary.parse(["sky", too_long]), config)
    assert len(str(caught.value)) < 200


def test_reserved_prompts_of_the_config(clip: CountingClip):
    config = RecognitionConfig(something_else=("background",))
    with pytest.raises(VocabularyError, match=r"'Background' is reserved by recognition\.something_else"):
        embedded(clip, Vocabulary.parse("dog; scenery, Background"), config)


def test_it_is_a_timed_stage(clip: CountingClip):
    with record_stages() as timings:
        embedded(clip, Vocabulary.parse("dog"), RecognitionConfig(templates=("{}",)))
    assert timings.keys() == {"vocabulary"}


def test_real_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if "OVSR_TEST_ASSETS" not in os.environ:
        pytest.skip("OVSR_TEST_ASSETS is not set")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = Path(os.environ["OVSR_TEST_ASSETS"], "clip", "effb0_msrc")
    real = load_clip(f"local-dir:{folder}", None, torch.device("cpu"))
    rows = embedded(real, Vocabulary.parse("grass; lawn; car"), RecognitionConfig())
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    assert rows[0] @ rows[1] > 0.95 > rows[0] @ rows[2]
