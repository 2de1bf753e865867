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

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.files import find_images, iter_images
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage
from ovsr_gpu.sources.loading import load_batches

IMAGE_BYTES = 20_000
"""Approximate size of one image; more than the padding of a tar archive."""


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image_bytes(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (80, IMAGE_BYTES // 240), (red, 0, 0)).save(file, "BMP")
    return file.getvalue()


def make_tar(path: str, names: list[str], *, mode: str = "w", change: Callable[[tarfile.TarInfo], None] | None = None):
    """Write an archive of images with red values 0, 1, 2..."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for red, name in enumerate(names):
            data = image_bytes(red)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if change is not None:
                change(member)
            tar.addfile(member, io.BytesIO(data))


def read(image: ImageSource) -> Tensor:
    with image.open() as file:
        return decode_image(file)


def reds(images: list[ImageSource]) -> list[int]:
    return [int(read(image)[0, 0, 0]) for image in images]


def reason(image: ImageSource) -> str:
    with pytest.raises(ImageError) as caught:
        read(image)
    return str(caught.value)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_in_place(workdir: Path, form: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
    images = find_images(["in/train-0003.tar"])
    assert [image.name for image in images] == [
        *("train-0003/0001", "train-0003/0001.left", "train-0003/sub/0001"),
        *("train-0003/sub/" + "é" * 40, "train-0003/0001~2"),
    ]
    assert str(images[0].path).replace("\\", "/") == "in/train-0003.tar::0001.jpg"
    assert reds(images) == [0, 2, 3, 4, 5]
    assert pickle.loads(pickle.dumps(images)) == images
    with ThreadPoolExecutor(4) as pool:
        assert [int(pixels[0, 0, 0]) for pixels in pool.map(read, images * 4)] == [0, 2, 3, 4, 5] * 4
    [batch] = load_batches([images])
    assert [image.source for image in batch.images] == images and all(image.disk_seconds for image in batch.images)


def test_archives_by_patterns_and_numbers(workdir: Path) -> None:
    for name in ("train/0", "train/1", "val/0"):
        make_tar(f"in/{name}.tar", ["a.jpg"])
    Path("in/b.png").touch()
    assert [image.name for image in find_images(["in/*/*.tar"])] == ["train/0/a", "train/1/a", "val/0/a"]
    assert [image.name for image in find_images(["in/train/{0..1}.tar"])] == ["0/a", "1/a"]
    assert [image.name for image in find_images(["in"])] == ["b"]
    assert len(find_images(["in/train/0.tar", "in/**/*.tar"])) == 3
    with pytest.raises(ValueError, match="no image in"):
        iter_images(["in/b.png", "in/*/*.TAR/x"])


def test_the_same_name_twice_is_two_images(workdir: Path) -> None:
    make_tar("a.tar", ["x.jpg", "x.jpg"])
    images = find_images(["a.tar", "./a.tar"])
    assert [image.name for image in images] == ["a/x", "a/x~2"] and reds(images) == [0, 1]


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "..\\x.png", "\\\\host\\x.png", "C:\\x.png", "C:x.png"]
)
def test_members_that_lead_out_are_rejected(workdir: Path, name: str) -> None:
    make_tar("a.tar", ["good.png", name, "better.png"])
    good, bad, better = find_images(["a.tar"])
    assert reds([good, better]) == [0, 2]
    assert isinstance(bad, UnreadableImage) and not {"..", ""} & set(bad.name.split("/"))
    assert name in str(bad.path) and "leads out of the archive" in reason(bad)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_members_that_are_not_files_are_rejected(workdir: Path, kind: bytes) -> None:
    Image.new("RGB", (4, 4)).save("secret.png")

    def change(member: tarfile.TarInfo) -> None:
        if member.name == "odd.png":
            member.type, member.linkname, member.size = kind, "secret.png", 0

    make_tar("a.tar", ["good.png", "odd.png", "better.png"], change=change)
    good, bad, better = find_images(["a.tar"])
    assert reds([good, better]) == [0, 2] and "link, device" in reason(bad)


def test_folders_and_empty_members(workdir: Path) -> None:
    with tarfile.open("a.tar", "w") as tar:
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("./folder.png/empty.png"))
    [empty] = find_images(["a.tar"])
    assert empty.name == "a/folder.png_/empty" and "empty" in reason(empty)


@pytest.mark.parametrize("cut", ["data", "header", "between", "end mark"])
def test_only_the_missing_part_of_a_truncated_archive_is_lost(workdir: Path, cut: str) -> None:
    make_tar("a.tar", ["0.png", "1.png", "2.png"])
    with tarfile.open("a.tar") as tar:
        third = tar.getmembers()[2]
    length = {
        "data": third.offset_data + 1000,
        "header": third.offset + 100,
        "between": third.offset,
        "end mark": third.offset_data + (third.size + 511) // 512 * 512,
    }[cut]
    content = Path("a.tar").read_bytes()
    Path("a.tar").write_bytes(content[:length])
    images = find_images(["a.tar"])
    *members, failure = images
    assert reds(members[:2]) == [0, 1] and "without an end-of-archive mark" in reason(failure)
    assert "'a.tar'" in reason(failure)
    if cut == "data":
        assert "'a.tar::2.png'" in reason(members[2]) and "ends in the middle" in reason(members[2])
    assert len(members) == (2 if cut in ("header", "between") else 3)


def test_only_the_member_of_a_broken_header_is_lost(workdir: Path) -> None:
    make_tar("a.tar", [f"{number}.png" for number in range(6)])
    with tarfile.open("a.tar") as tar:
        members = tar.getmembers()
    content = bytearray(Path("a.tar").read_bytes())
    for number in (1, 4):  # BMP data contain zero blocks, which must not count as the end
        content[members[number].offset + 10] ^= 255
    Path("a.tar").write_bytes(content)
    images = find_images(["a.tar"])
    failures = [image for image in images if isinstance(image, UnreadableImage)]
    assert reds([image for image in images if image not in failures]) == [0, 2, 3, 5]
    assert [f"from byte {members[number].offset} " in reason(failures[i]) for i, number in enumerate((1, 4))] == [
        True
    ] * 2


@pytest.mark.parametrize("size", [-1, -512, -20_000, -(2**70)])
def test_only_the_member_of_a_header_with_a_negative_size_is_lost(workdir: Path, size: int) -> None:
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
    first, failure, third = find_images(["a.tar"])
    assert reds([first, third]) == [0, 2] and f"from byte {second.offset} " in reason(failure)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"\x1f\x8b" + b"x" * 2000])
def test_files_that_are_not_archives(workdir: Path, content: bytes) -> None:
    make_tar("good.tar", ["0.png"])
    Path("bad.tar").write_bytes(content)
    bad, good = find_images(["*.tar"])
    assert "not a tar archive, or a compressed one" in reason(bad) and reds([good]) == [0]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_archives_are_rejected(workdir: Path, mode: str) -> None:
    make_tar(f"a.tar.{mode}", ["0.png"], mode=f"w:{mode}")
    make_tar("b.tar", ["0.png"], mode=f"w:{mode}")
    with pytest.raises(ValueError, match=r"compressed archive 'a\.tar\..*decompress it"):
        iter_images([f"a.tar.{mode}"])
    with pytest.raises(ValueError, match=r"compressed archive '\*\.tar\..*decompress it"):
        iter_images([f"*.tar.{mode}"])
    [compressed] = find_images(["b.tar"])
    assert "must be decompressed first" in reason(compressed)


def test_an_archive_without_images(workdir: Path) -> None:
    make_tar("a.tar", ["0.json"])
    make_tar("empty.tar", [])
    for name in ("a.tar", "empty.tar"):
        with pytest.raises(ValueError, match=f"no image in '{name}'"):
            iter_images([name])


def test_listing_an_archive_takes_constant_memory(workdir: Path) -> None:
    with tarfile.open("a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(20_000):
            tar.addfile(tarfile.TarInfo(f"{number:06}.jpg"))
    images = iter_images(["a.tar"])
    assert sum(1 for _ in islice(images, 15_000)) == 15_000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        assert deque(images, 1)[0].name == "a/019999"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 300_000
