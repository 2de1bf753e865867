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
from ovsr_gpu.sources import name_registry as name_registry
from ovsr_gpu.sources.files import find_images, iter_images
from ovsr_gpu.sources.image_source import UnreadableImage
from ovsr_gpu.sources.name_registry import MAX_NAME_BYTES


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*sources: str) -> list[str]:
    return [image.name for image in find_images(sources)]


def test_folders_are_searched_in_order_and_by_suffix(workdir: Path) -> None:
    touch("in/b.JPG", "in/a.png", "in/sub/deep/c.webp", "in/notes.txt", "in/.hidden.png", "in/.cache/d.png", "in/e")
    images = find_images(["in"])
    assert [image.name for image in images] == ["a", "b", "sub/deep/c"]
    assert [image.path for image in images] == [Path("in/a.png"), Path("in/b.JPG"), Path("in/sub/deep/c.webp")]


def test_a_file_named_explicitly_may_have_any_suffix(workdir: Path) -> None:
    touch("notes.md", "x/.hidden", "x/plain")
    assert names("notes.md", "x/.hidden", "x/plain") == ["notes", ".hidden", "plain"]


def test_globs(workdir: Path) -> None:
    touch("in/a.png", "in/b.jpg", "in/sub/c.png", "in/sub/d.txt", "a[1].png")
    assert names("in/*.png") == ["a"]
    assert names("in/**/*") == ["a", "b", "sub/c"]
    assert names("*/sub/*") == ["in/sub/c"]
    assert names(str(workdir / "in" / "*.jpg")) == ["b"]
    assert names("a[1].png") == ["a[1]"]  # a file with exactly this name takes precedence over the pattern
    touch("in/sub/deep/sub/e.png", "in/.hidden/f.png")
    assert names("in/**/sub/**/*.png") == ["sub/c", "sub/deep/sub/e"]  # each once, although two ways match it
    assert names("in/**") == ["a", "b", "sub/c", "sub/deep/sub/e"]
    assert names("in/*.png", "in/s??/[a-d].png") == ["a", "sub/c"]


@pytest.mark.skipif(os.name == "nt", reason="links need special permissions")
def test_links(workdir: Path) -> None:
    touch("elsewhere/a.png", "in/b.png")
    os.symlink("../elsewhere", "in/linked")
    os.symlink("..", "elsewhere/up")
    os.symlink("b.png", "in/c.png")
    os.symlink("loop.png", "in/loop.png")
    assert names("in") == names("in/**/*") == ["b", "c", "loop"]
    assert names("in/*/*.png") == ["linked/a"]


def test_numbers_in_braces(workdir: Path) -> None:
    touch("a07.png", "a08.png", "a09.png", "a10.png", "b-{1..2}.png", "1/2.png", "1/3.png", "2/2.png", "2/3.png")
    assert names("a{08..10}.png") == ["a08", "a09", "a10"]
    assert names("b-{1..2}.png") == ["b-{1..2}"]
    assert [image.path.as_posix() for image in find_images(["{1..2}/{2..3}*"])] == [
        *("1/2.png", "1/3.png", "2/2.png", "2/3.png")
    ]
    with pytest.raises(ValueError, match=r"'a11\.png' does not exist"):
        names("a{08..11}.png")


def test_each_file_is_found_once(workdir: Path) -> None:
    touch("in/a.png", "in/b.png")
    assert names("in/b.png", "in", "./in/a.png", str(workdir / "in")) == ["b", "a"]


def test_equal_names_are_numbered_without_collisions(workdir: Path) -> None:
    touch("x/a.jpg", "x/a.png", "y/a.jpg", "y/A~2.gif", "z/a.jpg", "z/a~3.png", "w/a.jpg")
    assert names("x", "y", "z", "w") == ["a", "a~2", "A~2~2", "a~3", "a~4", "a~3~2", "a~5"]


def test_names_that_are_distinct_only_on_some_file_systems(workdir: Path) -> None:
    touch("1/Cafe\u0301.png", "2/CAF\u00c9.png", "3/caf\u00e9.png")
    assert names("1", "2", "3") == ["Cafe\u0301", "CAF\u00c9~2", "caf\u00e9~3"]


def test_a_folder_named_like_an_output(workdir: Path) -> None:
    touch("in/a.jpg", "in/a.png/b.jpg")
    assert names("in") == ["a", "a.png_/b"]
    assert len({name.split("/")[0] + ("" if "/" in name else ".png") for name in names("in")}) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows does not allow these names")
def test_odd_names(workdir: Path) -> None:
    odd = ["two words", "quote'\"s", "new\nline", "犬と猫", "кошка", "tab\t", "50%", "a.b", "trailing."]
    touch(*(f"in/{name}.png" for name in odd))
    images = find_images(["in"])
    assert sorted(image.name for image in images) == sorted(odd)
    assert all(image.path.is_file() for image in images)


@pytest.mark.skipif(os.name == "nt", reason="only POSIX has names that are not Unicode")
def test_names_that_are_not_unicode_and_very_long_names(workdir: Path) -> None:
    os.makedirs("in")
    try:
        open(b"in/\xff\xfe.png", "wb").close()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    touch("in/" + "x" * 251 + ".png", "in/" + "é" * 125 + ".png")
    output_names = names("in")
    assert os.fsdecode(b"\xff\xfe") in output_names
    assert max(len(os.fsencode(name)) for name in output_names) == MAX_NAME_BYTES


def test_the_outputs_of_an_earlier_run_are_excluded(workdir: Path) -> None:
    touch("a.png", "out/labels/a.png", "outside.png")
    assert [image.name for image in find_images(["."], exclude=Path("out"))] == ["a", "outside"]


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
def test_sources_without_images(workdir: Path, sources: list[str], message: str) -> None:
    touch("texts/a.txt", "a.png")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        iter_images(sources)  # immediately, not after all images before it have been labelled
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_is_reported(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_pipe_does_not_block(workdir: Path) -> None:
    for name in ("a.tar", "a.txt"):
        os.mkfifo(name)
        [image] = find_images([name])
        with pytest.raises(ImageError, match="not a regular file"), image.open():
            pass


def test_the_message_for_a_full_disk(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallRegistry(name_registry.NameRegistry):
        def __init__(self) -> None:
            super().__init__()
            self._database.execute("PRAGMA max_page_count = 5")

    monkeypatch.setattr("ovsr_gpu.sources.files.NameRegistry", SmallRegistry)
    touch(*(f"in/{number:0200}.png" for number in range(100)))
    with pytest.raises(OvsrError, match=r"temporary files \(.*full\).*TMPDIR"):
        find_images(["in"])


def test_a_large_tree_is_listed_lazily_in_constant_memory(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> None:
    """100,000 images in 1000 folders, which are listed one by one."""
    listed = []

    @contextmanager
    def scandir(folder: Path) -> Iterator[Iterator[SimpleNamespace]]:
        listed.append(folder)
        top = Path(folder) == workdir
        made = [f"{number:03}" for number in range(1000)] if top else [f"{number}.png" for number in range(100)]
        yield (
            SimpleNamespace(name=name, is_dir=lambda *, follow_symlinks: top, is_symlink=lambda: False) for name in made
        )

    monkeypatch.setattr(os, "scandir", scandir)
    images = iter_images([workdir])
    assert next(images).name == "000/0" and len(listed) == 2
    for number, _ in enumerate(islice(images, 79_999), 2):
        assert len(listed) == 2 + (number - 1) // 100
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        try:
            last = deque(islice(images, 10_000), 1)[0]
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert last.name == "999/99" and len(listed) == 1001
    assert next(images, None) is None
    assert min(peaks) < 1_000_000  # one of the two may include a resize of Python's table of interned strings
