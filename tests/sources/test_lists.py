from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
from PIL import Image

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.files import find_images, iter_images
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage
from ovsr_gpu.sources.loading import load_batches


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in/sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b, c.png", "sub/d.png"]):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(Path("in", name))
    return tmp_path


def reds(source: str) -> list[int | str]:
    """Return the red values of the images of a list, and the messages of those that cannot be read."""
    results = [image.pixels for batch in load_batches([find_images([source])]) for image in batch.images]
    return [str(result) if isinstance(result, Exception) else int(result[0, 0, 0]) for result in results]


def write_parquet(path: str, columns: dict[str, list[object]]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)


@pytest.mark.parametrize("name", ["list.txt", "@list.txt", "@list", "@list.log"])
def test_text_lists(workdir: Path, name: str) -> None:
    lines = ["a.png", "", "sub/../b, c.png\r", "gone.png", str(workdir / "in" / "sub" / "d.png"), "./a.png"]
    Path("in", name.lstrip("@")).write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    source = "@in/" + name[1:] if name.startswith("@") else f"in/{name}"
    images = find_images([source])
    inside = (workdir / "in" / "sub" / "d").as_posix().lstrip("/").replace(":", "_")
    assert [image.name for image in images] == ["a", "sub/b, c", "gone", inside]
    assert images[0].path == Path("in/a.png")
    first, second, third, fourth = reds(source)
    assert (first, second, fourth) == (0, 1, 2)
    assert str(third).startswith("cannot read ") and "gone.png" in str(third) and "no such file" in str(third)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="only Linux has names that are not Unicode")
def test_a_text_list_may_have_names_that_are_not_unicode(workdir: Path) -> None:
    Path(workdir, "in", "a.png").rename(b"in/\xff.png".decode("utf-8", "surrogateescape"))
    Path("in/list.txt").write_bytes(b"\xff.png\n")
    assert reds("in/list.txt") == [0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('label,File Name,path\n1,x,a.png\n2,y,"b, c.png"\n', [0, 1]),
        ("\ufeffPath ;x,filename\r\n1,sub/d.png\r\n\r\n2,a.png\r\n", [2, 0]),
        ('"path"\n"a.png"\n', [0]),
        ("my images\nsub/d.png\n", [2]),
        ("a.png\nsub/d.png\n", [0, 2]),
    ],
)
def test_csv_lists(workdir: Path, content: str, expected: list[int]) -> None:
    Path("in/list.csv").write_text(content, "utf-8", newline="")
    assert reds("in/list.csv") == expected


def test_rows_of_a_csv_without_an_image_are_reported(workdir: Path) -> None:
    Path("in/list.csv").write_text("n,path\n1,a.png\n2\n3,\n4,sub/d.png\n5,a\0b.png\n")
    first, second, third, fourth, *rest = reds("in/list.csv")
    assert (first, fourth) == (0, 2)
    assert second == "cannot read 'in/list.csv:2': this entry of the list names no image"
    assert "in/list.csv:3" in str(third)
    assert len(rest) == 1 and "cannot" in str(rest[0])  # a null byte ends a CSV file in Python 3.10


def test_parquet_lists(workdir: Path) -> None:
    columns: dict[str, list[object]] = {"id": [1, 2, 3, 4], "image": ["a.png", "b, c.png", None, "sub/d.png"]}
    write_parquet("in/list.parquet", columns)
    first, second, third, fourth = reds("in/list.parquet")
    assert (first, second, fourth) == (0, 1, 2) and "in/list.parquet:3" in str(third)


def test_the_preferred_column_is_used(workdir: Path) -> None:
    write_parquet("in/list.parquet", {"url": ["http://nowhere/x.png"], "FILE": ["a.png"], "image": [b"bytes"]})
    assert reds("in/list.parquet") == [0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", "\n\n", "no image in 'list.txt'"),
        ("list.csv", "", "no image in 'list.csv'"),
        ("list.csv", "path\n", "no image in 'list.csv'"),
        ("list.csv", "a,b\n1,2\n", r"'list.csv' cannot be read \(none of its columns 'a', 'b' is named path, file"),
        ("list.parquet", "no parquet", "'list.parquet' cannot be read"),
    ],
)
def test_lists_without_images(workdir: Path, name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    with pytest.raises(ValueError, match=message):
        iter_images(["in", name])


def test_a_column_that_holds_no_strings(workdir: Path) -> None:
    write_parquet("list.parquet", {"image": [{"bytes": b"..."}]})
    with pytest.raises(ValueError, match="its column 'image' holds dict instead of paths"):
        iter_images(["list.parquet"])


def test_images_before_an_error_in_a_list_are_found(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in/list.csv").write_text('path\na.png\n"' + "x" * 200_000 + '"\nsub/d.png\n')
    first, rest = find_images(["in/list.csv"])
    assert first.path == Path("in/a.png") and isinstance(rest, UnreadableImage)
    with pytest.raises(ImageError, match=r"'in/list\.csv': what comes after entry 1 cannot be read \(field larger"):
        rest.open()


def test_images_can_be_pickled() -> None:
    for image in (ImageSource(Path("a.png"), "a"), UnreadableImage("x", "x", "why")):
        assert pickle.loads(pickle.dumps(image)) == image
