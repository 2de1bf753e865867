from __future__ import annotations

import io
import pickle
import tarfile
import tracemalloc
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from ovsr_gpu.errors import PictureError
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.files import find_pictures, iter_pictures
from ovsr_gpu.sources.image_source import Picture, UnreadablePicture
from ovsr_gpu.sources.loading import load_batches

GREY = 20_000
"""Bytes of one picture, about; more than a tar's padding."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture_bytes(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (80, GREY // 240), (red, 0, 0)).save(file, "BMP")
    return file.getvalue()


def make_tar(path: str, names: list[str], *, mode: str = "w", change: Callable[[tarfile.TarInfo], None] | None = None):
    """An archive of pictures whose colours count up."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for red, name in enumerate(names):
            data = picture_bytes(red)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if change is not None:
                change(member)
            tar.addfile(member, io.BytesIO(data))


def read(picture: Picture) -> Tensor:
    with picture.open() as file:
        return decode_picture(file)


def reds(pictures: list[Picture]) -> list[int]:
    return [int(read(picture)[0, 0, 0]) for picture in pictures]


def reason(picture: Picture) -> str:
    with pytest.raises(PictureError) as caught:
        read(picture)
    return str(caught.value)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_where_they_lie(place: Path, form: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarfile.TarFile, "format", form)
    names = [
        "0001.jpg",
        "0001.json",
        "0001.left.png",
        "sub/0001.png",
        "sub/" + "é" * 40 + ".jpg",
        "0001.PNG",
        "._1.png",
    ]
    make_tar("in/train-0003.tar", names)
    pictures = find_pictures(["in/train-0003.tar"])
    assert [picture.name for picture in pictures] == [
        *("train-0003/0001", "train-0003/0001.left", "train-0003/sub/0001"),
        *("train-0003/sub/" + "é" * 40, "train-0003/0001~2"),
    ]
    assert str(pictures[0].path).replace("\\", "/") == "in/train-0003.tar::0001.jpg"
    assert reds(pictures) == [0, 2, 3, 4, 5]
    assert pickle.loads(pickle.dumps(pictures)) == pictures
    with ThreadPoolExecutor(4) as pool:
        assert [int(pixels[0, 0, 0]) for pixels in pool.map(read, pictures * 4)] == [0, 2, 3, 4, 5] * 4
    [batch] = load_batches([pictures])
    assert [one.picture for one in batch.pictures] == pictures and all(one.disk_seconds for one in batch.pictures)


def test_archives_by_patterns_and_numbers(place: Path) -> None:
    for name in ("train/0", "train/1", "val/0"):
        make_tar(f"in/{name}.tar", ["a.jpg"])
    Path("in/b.png").touch()
    assert [picture.name for picture in find_pictures(["in/*/*.tar"])] == ["train/0/a", "train/1/a", "val/0/a"]
    assert [picture.name for picture in find_pictures(["in/train/{0..1}.tar"])] == ["0/a", "1/a"]
    assert [picture.name for picture in find_pictures(["in"])] == ["b"]
    assert len(find_pictures(["in/train/0.tar", "in/**/*.tar"])) == 3
    with pytest.raises(ValueError, match="no picture in"):
        iter_pictures(["in/b.png", "in/*/*.TAR/x"])


def test_the_same_name_twice_is_two_pictures(place: Path) -> None:
    make_tar("a.tar", ["x.jpg", "x.jpg"])
    pictures = find_pictures(["a.tar", "./a.tar"])
    assert [picture.name for picture in pictures] == ["a/x", "a/x~2"] and reds(pictures) == [0, 1]


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "..\\x.png", "\\\\host\\x.png", "C:\\x.png", "C:x.png"]
)
def test_members_that_lead_out_are_refused(place: Path, name: str) -> None:
    make_tar("a.tar", ["good.png", name, "better.png"])
    good, bad, better = find_pictures(["a.tar"])
    assert reds([good, better]) == [0, 2]
    assert isinstance(bad, UnreadablePicture) and not {"..", ""} & set(bad.name.split("/"))
    assert name in str(bad.path) and "leads out of the archive" in reason(bad)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_members_that_are_no_files_are_refused(place: Path, kind: bytes) -> None:
    Image.new("RGB", (4, 4)).save("secret.png")

    def change(member: tarfile.TarInfo) -> None:
        if member.name == "odd.png":
            member.type, member.linkname, member.size = kind, "secret.png", 0

    make_tar("a.tar", ["good.png", "odd.png", "better.png"], change=change)
    good, bad, better = find_pictures(["a.tar"])
    assert reds([good, better]) == [0, 2] and "link, device" in reason(bad)


def test_folders_and_empty_members(place: Path) -> None:
    with tarfile.open("a.tar", "w") as tar:
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("./folder.png/empty.png"))
    [empty] = find_pictures(["a.tar"])
    assert empty.name == "a/folder.png_/empty" and "empty" in reason(empty)


@pytest.mark.parametrize("cut", ["data", "header", "between", "end mark"])
def test_a_truncated_archive_costs_only_what_is_missing(place: Path, cut: str) -> None:
    make_tar("a.tar", ["0.png", "1.png", "2.png"])
    with tarfile.open("a.tar") as tar:
        third = tar.getmembers()[2]
    length = {
        "data": third.offset_data + 1000,
        "header": third.offset + 100,
        "between": third.offset,
        "end mark": third.offset_data + (third.size + 511) // 512 * 512,
    }[cut]
    whole = Path("a.tar").read_bytes()
    Path("a.tar").write_bytes(whole[:length])
    pictures = find_pictures(["a.tar"])
    *members, failure = pictures
    assert reds(members[:2]) == [0, 1] and "without an end mark" in reason(failure)
    assert "'a.tar'" in reason(failure)
    if cut == "data":
        assert "'a.tar::2.png'" in reason(members[2]) and "ends in the middle" in reason(members[2])
    assert len(members) == (2 if cut in ("header", "between") else 3)


def test_a_broken_header_costs_only_its_member(place: Path) -> None:
    make_tar("a.tar", [f"{number}.png" for number in range(6)])
    with tarfile.open("a.tar") as tar:
        members = tar.getmembers()
    content = bytearray(Path("a.tar").read_bytes())
    for number in (1, 4):  # BMP data hold zero blocks, which must not be taken for the end
        content[members[number].offset + 10] ^= 255
    Path("a.tar").write_bytes(content)
    pictures = find_pictures(["a.tar"])
    failures = [picture for picture in pictures if isinstance(picture, UnreadablePicture)]
    assert reds([picture for picture in pictures if picture not in failures]) == [0, 2, 3, 5]
    assert [f"from byte {members[number].offset} " in reason(failures[i]) for i, number in enumerate((1, 4))] == [
        True
    ] * 2


@pytest.mark.parametrize("size", [-1, -512, -20_000, -(2**70)])
def test_a_header_that_leads_back_costs_only_its_member(place: Path, size: int) -> None:
    make_tar("a.tar", ["0.png", "1.png", "2.png"])
    with tarfile.open("a.tar") as tar:
        second = tar.getmembers()[1]
    content = bytearray(Path("a.tar").read_bytes())
    header = content[second.offset : second.offset + 512]
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[second.offset : second.offset + 512] = header
    Path("a.tar").write_bytes(content)
    first, failure, third = find_pictures(["a.tar"])
    assert reds([first, third]) == [0, 2] and f"from byte {second.offset} " in reason(failure)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"\x1f\x8b" + b"x" * 2000])
def test_what_is_no_archive(place: Path, content: bytes) -> None:
    make_tar("good.tar", ["0.png"])
    Path("bad.tar").write_bytes(content)
    bad, good = find_pictures(["*.tar"])
    assert "no tar archive, or a compressed one" in reason(bad) and reds([good]) == [0]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_archives_are_refused(place: Path, mode: str) -> None:
    make_tar(f"a.tar.{mode}", ["0.png"], mode=f"w:{mode}")
    make_tar("b.tar", ["0.png"], mode=f"w:{mode}")
    with pytest.raises(ValueError, match=r"compressed archive 'a\.tar\..*decompress it"):
        iter_pictures([f"a.tar.{mode}"])
    with pytest.raises(ValueError, match=r"compressed archive '\*\.tar\..*decompress it"):
        iter_pictures([f"*.tar.{mode}"])
    [compressed] = find_pictures(["b.tar"])
    assert "has to be decompressed first" in reason(compressed)


def test_an_archive_without_pictures(place: Path) -> None:
    make_tar("a.tar", ["0.json"])
    make_tar("empty.tar", [])
    for name in ("a.tar", "empty.tar"):
        with pytest.raises(ValueError, match=f"no picture in '{name}'"):
            iter_pictures([name])


def test_listing_an_archive_takes_constant_memory(place: Path) -> None:
    with tarfile.open("a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(20_000):
            tar.addfile(tarfile.TarInfo(f"{number:06}.jpg"))
    pictures = iter_pictures(["a.tar"])
    assert sum(1 for _ in islice(pictures, 15_000)) == 15_000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        assert deque(pictures, 1)[0].name == "a/019999"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 300_000
