from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovsr_gpu.sources.files import LONGEST_NAME, find_pictures


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*sources: str) -> list[str]:
    return [picture.name for picture in find_pictures(sources)]


def test_folders_are_searched_in_order_and_by_suffix(place: Path) -> None:
    touch("in/b.JPG", "in/a.png", "in/sub/deep/c.webp", "in/notes.txt", "in/.hidden.png", "in/.cache/d.png", "in/e")
    pictures = find_pictures(["in"])
    assert [picture.name for picture in pictures] == ["a", "b", "sub/deep/c"]
    assert [picture.path for picture in pictures] == [Path("in/a.png"), Path("in/b.JPG"), Path("in/sub/deep/c.webp")]


def test_a_file_given_by_name_is_taken_whatever_it_is(place: Path) -> None:
    touch("notes.txt", "x/.hidden", "x/plain")
    assert names("notes.txt", "x/.hidden", "x/plain") == ["notes", ".hidden", "plain"]


def test_globs(place: Path) -> None:
    touch("in/a.png", "in/b.jpg", "in/sub/c.png", "in/sub/d.txt", "a[1].png")
    assert names("in/*.png") == ["a"]
    assert names("in/**/*") == ["a", "b", "sub/c"]
    assert names("*/sub/*") == ["in/sub/c"]
    assert names(str(place / "in" / "*.jpg")) == ["b"]
    assert names("a[1].png") == ["a[1]"]  # a file of that very name wins over the pattern


def test_each_file_is_taken_once(place: Path) -> None:
    touch("in/a.png", "in/b.png")
    assert names("in/b.png", "in", "./in/a.png", str(place / "in")) == ["b", "a"]


def test_equal_names_are_numbered_and_never_meet(place: Path) -> None:
    touch("x/a.jpg", "x/a.png", "y/a.jpg", "y/A~2.gif", "z/a.jpg", "z/a~3.png", "w/a.jpg")
    assert names("x", "y", "z", "w") == ["a", "a~2", "A~2~2", "a~3", "a~4", "a~3~2", "a~5"]


def test_names_that_only_some_file_systems_tell_apart(place: Path) -> None:
    touch("1/Cafe\u0301.png", "2/CAF\u00c9.png", "3/caf\u00e9.png")
    assert names("1", "2", "3") == ["Cafe\u0301", "CAF\u00c9~2", "caf\u00e9~3"]


def test_a_folder_named_like_an_output(place: Path) -> None:
    touch("in/a.jpg", "in/a.png/b.jpg")
    assert names("in") == ["a", "a.png_/b"]
    assert len({name.split("/")[0] + ("" if "/" in name else ".png") for name in names("in")}) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_odd_names(place: Path) -> None:
    odd = ["two words", "quote'\"s", "new\nline", "犬と猫", "кошка", "tab\t", "50%", "a.b", "trailing."]
    touch(*(f"in/{name}.png" for name in odd))
    pictures = find_pictures(["in"])
    assert sorted(picture.name for picture in pictures) == sorted(odd)
    assert all(picture.path.is_file() for picture in pictures)


@pytest.mark.skipif(os.name == "nt", reason="bytes beyond Unicode are POSIX's")
def test_names_that_are_no_unicode_and_very_long_names(place: Path) -> None:
    os.makedirs("in")
    try:
        open(b"in/\xff\xfe.png", "wb").close()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    touch("in/" + "x" * 251 + ".png", "in/" + "é" * 125 + ".png")
    found = names("in")
    assert os.fsdecode(b"\xff\xfe") in found
    assert max(len(os.fsencode(name)) for name in found) == LONGEST_NAME


def test_the_results_of_an_earlier_run_are_no_sources(place: Path) -> None:
    touch("a.png", "out/labels/a.png", "outside.png")
    assert [picture.name for picture in find_pictures(["."], outside=Path("out"))] == ["a", "outside"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["nowhere/*.png"], "no picture in 'nowhere/"),
        (["empty"], "no picture in 'empty'"),
        (["texts"], "no picture in 'texts'"),
        ([], "no picture to label"),
    ],
)
def test_sources_without_pictures(place: Path, sources: list[str], message: str) -> None:
    touch("texts/a.txt")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        find_pictures(sources)
    assert "\n" not in str(caught.value)
