from __future__ import annotations

import os
import tracemalloc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from ovsr_gpu.errors import ImageError, OvsrError
from ovsr_gpu.sources import name_registry as names_module
from ovsr_gpu.sources.files import find_images, iter_images
from ovsr_gpu.sources.image_source import UnreadableImage
from ovsr_gpu.sources.name_registry import LONGEST_NAME


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*sources: str) -> list[str]:
    return [image.name for image in find_images(sources)]


def test_folders_are_searched_in_order_and_by_suffix(place: Path) -> None:
    touch("in/b.JPG", "in/a.png", "in/sub/deep/c.webp", "in/notes.txt", "in/.hidden.png", "in/.cache/d.png", "in/e")
    images = find_images(["in"])
    assert [image.name for image in images] == ["a", "b", "sub/deep/c"]
    assert [image.path for image in images] == [Path("in/a.png"), Path("in/b.JPG"), Path("in/sub/deep/c.webp")]


def test_a_file_given_by_name_is_taken_whatever_it_is(place: Path) -> None:
    touch("notes.md", "x/.hidden", "x/plain")
    assert names("notes.md", "x/.hidden", "x/plain") == ["notes", ".hidden", "plain"]


def test_globs(place: Path) -> None:
    touch("in/a.png", "in/b.jpg", "in/sub/c.png", "in/sub/d.txt", "a[1].png")
    assert names("in/*.png") == ["a"]
    assert names("in/**/*") == ["a", "b", "sub/c"]
    assert names("*/sub/*") == ["in/sub/c"]
    assert names(str(place / "in" / "*.jpg")) == ["b"]
    assert names("a[1].png") == ["a[1]"]  # a file of that very name wins over the pattern
    touch("in/sub/deep/sub/e.png", "in/.hidden/f.png")
    assert names("in/**/sub/**/*.png") == ["sub/c", "sub/deep/sub/e"]  # each once, though found in two ways
    assert names("in/**") == ["a", "b", "sub/c", "sub/deep/sub/e"]
    assert names("in/*.png", "in/s??/[a-d].png") == ["a", "sub/c"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links(place: Path) -> None:
    touch("elsewhere/a.png", "in/b.png")
    os.symlink("../elsewhere", "in/linked")
    os.symlink("..", "elsewhere/up")
    os.symlink("b.png", "in/c.png")
    os.symlink("loop.png", "in/loop.png")
    assert names("in") == names("in/**/*") == ["b", "c", "loop"]
    assert names("in/*/*.png") == ["linked/a"]


def test_numbers_in_braces(place: Path) -> None:
    touch("a07.png", "a08.png", "a09.png", "a10.png", "b-{1..2}.png", "1/2.png", "1/3.png", "2/2.png", "2/3.png")
    assert names("a{08..10}.png") == ["a08", "a09", "a10"]
    assert names("b-{1..2}.png") == ["b-{1..2}"]
    assert [image.path.as_posix() for image in find_images(["{1..2}/{2..3}*"])] == [
        *("1/2.png", "1/3.png", "2/2.png", "2/3.png")
    ]
    with pytest.raises(ValueError, match=r"'a11\.png' does not exist"):
        names("a{08..11}.png")


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
    images = find_images(["in"])
    assert sorted(image.name for image in images) == sorted(odd)
    assert all(image.path.is_file() for image in images)


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
    assert [image.name for image in find_images(["."], outside=Path("out"))] == ["a", "outside"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["nowhere/*.png"], "no image in 'nowhere/"),
        (["empty"], "no image in 'empty'"),
        (["texts"], "no image in 'texts'"),
        (["a.png/*.png"], "no image in 'a.png/"),
        (["a.png", "texts"], "no image in 'texts'"),
        (["a.png", "@nowhere"], "'nowhere' does not exist"),
        ([], "no image to label"),
    ],
)
def test_sources_without_images(place: Path, sources: list[str], message: str) -> None:
    touch("texts/a.txt", "a.png")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        iter_images(sources)  # at once, and not when all those before have been labelled
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_is_reported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/locked/b.png", "in/z.png")
    scandir = os.scandir

    def refuse(folder: Path) -> Iterator[os.DirEntry[str]]:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    a, locked, z = find_images(["in"])
    assert (a.name, z.name) == ("a", "z") and isinstance(locked, UnreadableImage)
    with pytest.raises(ImageError, match=r"cannot read .*locked.*the folder cannot be listed \(Permission denied\)"):
        locked.open()
    with pytest.raises(ValueError, match=r"'in/locked' cannot be read \(Permission denied\)"):
        find_images(["in/locked"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_never_waited_for(place: Path) -> None:
    for name in ("a.tar", "a.txt"):
        os.mkfifo(name)
        [image] = find_images([name])
        with pytest.raises(ImageError, match="not a regular file"), image.open():
            pass


def test_a_full_disk_says_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallRegister(names_module.NameRegistry):
        def __init__(self) -> None:
            super().__init__()
            self._database.execute("PRAGMA max_page_count = 5")

    monkeypatch.setattr("ovsr_gpu.sources.files.NameRegistry", SmallRegister)
    touch(*(f"in/{number:0200}.png" for number in range(100)))
    with pytest.raises(OvsrError, match=r"temporary files \(.*full\).*TMPDIR"):
        find_images(["in"])


def test_a_large_tree_is_found_in_passing(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """100,000 images in 1000 folders, which are listed one after another, in constant memory."""
    listed = []

    @contextmanager
    def scandir(folder: Path) -> Iterator[Iterator[SimpleNamespace]]:
        listed.append(folder)
        top = Path(folder) == place
        made = [f"{number:03}" for number in range(1000)] if top else [f"{number}.png" for number in range(100)]
        yield (
            SimpleNamespace(name=name, is_dir=lambda *, follow_symlinks: top, is_symlink=lambda: False) for name in made
        )

    monkeypatch.setattr(os, "scandir", scandir)
    images = iter_images([place])
    assert next(images).name == "000/0" and len(listed) == 2
    for number, _ in enumerate(islice(images, 79_999), 2):
        assert len(listed) == 2 + (number - 1) // 100
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        last = deque(images, 1)[0]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last.name == "999/99" and len(listed) == 1001
    assert peak - before < 1_000_000
