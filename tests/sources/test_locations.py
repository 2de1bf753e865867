"""Pictures behind URLs, in fsspec's memory file system."""

from __future__ import annotations

import io
import pickle
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from ovsr_gpu.errors import OvsrError, PictureError
from ovsr_gpu.sources import decode
from ovsr_gpu.sources.decode import decode_picture
from ovsr_gpu.sources.files import find_pictures, iter_pictures
from ovsr_gpu.sources.image_source import Picture, UnreadablePicture
from ovsr_gpu.sources.loading import load_batches
from ovsr_gpu.sources.locations import join, path_for_name

fsspec = pytest.importorskip("fsspec")


def picture_bytes(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def bucket() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    names = ["b.png", "sub/a.png", "sub/deep/c.JPG", "sub/notes.md", "sub/.hidden.png", "odd?#[1].png"]
    files.pipe({f"/bucket/{name}": picture_bytes(red) for red, name in enumerate(names)})
    yield files
    files.rm("/bucket", recursive=True)


def names(*sources: str) -> list[str]:
    return [picture.name for picture in find_pictures(sources)]


def red(picture: Picture) -> int:
    with picture.open() as file:
        return int(decode_picture(file)[0, 0, 0])


def test_folders_files_and_patterns(bucket: Any) -> None:
    everything = ["b", "odd?#[1]", "sub/a", "sub/deep/c"]
    assert names("memory://bucket") == names("memory://bucket/") == names("memory://bucket/**/*") == everything
    assert names("memory://*/*.png") == ["bucket/b", "bucket/odd?#[1]"]
    assert names("memory://bucket/sub/*.png", "memory://bucket/sub") == ["a", "deep/c"]
    assert names("memory://bucket/odd?#[1].png", "memory://bucket/sub/notes.md") == ["odd?#[1]", "notes"]
    pictures = find_pictures(["memory://bucket"])
    assert pictures[2].path == "memory://bucket/sub/a.png"
    assert [red(picture) for picture in pictures] == [0, 5, 1, 2]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(red, pickle.loads(pickle.dumps(pictures)) * 4)) == [0, 5, 1, 2] * 4
    [batch] = load_batches([pictures])
    assert all(one.disk_seconds > 0 for one in batch.pictures)


def test_archives_behind_urls(bucket: Any) -> None:
    with bucket.open("/bucket/shards/0001.tar", "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number, name in enumerate(["x.png", "y/z.png"], 10):
            member = tarfile.TarInfo(name)
            member.size = len(picture_bytes(number))
            tar.addfile(member, io.BytesIO(picture_bytes(number)))
    for source in ("memory://bucket/shards/0001.tar", "memory://bucket/shards/*.tar"):
        pictures = find_pictures([source])
        assert [picture.name for picture in pictures] == ["0001/x", "0001/y/z"]
        assert pictures[0].path == "memory://bucket/shards/0001.tar::x.png"
        assert [red(picture) for picture in pictures] == [10, 11]


def test_lists_of_urls_and_behind_urls(bucket: Any, tmp_path: Path) -> None:
    lines = "memory://bucket/sub/a.png\nmemory://bucket/gone.png\nunknown://x.png\n"
    (tmp_path / "list.txt").write_text(lines)
    bucket.pipe("/bucket/sub/list.csv", b"url,n\na.png,1\nmemory://bucket/b.png,2\n/deep/c.JPG,3\n")
    good, gone, unknown = find_pictures([tmp_path / "list.txt"])
    assert (good.name, red(good)) == ("bucket/sub/a", 1)
    with pytest.raises(PictureError, match=r"cannot read 'memory://bucket/gone\.png': there is no such file"):
        red(gone)
    with pytest.raises(OvsrError, match=r"'unknown://x\.png' cannot be read \(Protocol not known"):
        red(unknown)
    pictures = find_pictures(["memory://bucket/sub/list.csv"])
    assert [(picture.name, red(picture)) for picture in pictures] == [("a", 1), ("bucket/b", 0), ("deep/c", 2)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://bucket/nothing.png", "'memory://bucket/nothing.png' does not exist"),
        ("memory://bucket/nothing/", "no picture in 'memory://bucket/nothing/'"),
        ("memory://nothing/**/*.png", "no picture in 'memory://nothing/"),
        ("memory://bucket/*.gif", "no picture in"),
    ],
)
def test_urls_without_pictures(bucket: Any, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iter_pictures(["memory://bucket/b.png", source])


def test_empty_and_huge_files(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.pipe("/bucket/empty.png", b"")
    monkeypatch.setattr(decode, "LARGEST", 10)
    with pytest.raises(PictureError, match="empty"):
        red(Picture("memory://bucket/empty.png", "empty"))
    with pytest.raises(PictureError, match="more than 10 bytes"):
        red(Picture("memory://bucket/b.png", "b"))


def test_a_storage_with_errors_of_its_own(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class StorageError(Exception):
        pass

    listing = type(bucket).ls

    def fail(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("deep"):
            raise StorageError("try again")
        return listing(self, path, **options)

    monkeypatch.setattr(type(bucket), "ls", fail)
    pictures = find_pictures(["memory://bucket/sub"])
    assert [type(picture) for picture in pictures] == [Picture, UnreadablePicture]
    with pytest.raises(PictureError, match=r"the folder cannot be listed \(StorageError: try again\)"):
        pictures[1].open()
    with pytest.raises(ValueError, match=r"'memory://bucket/sub/deep' cannot be read \(StorageError: try again\)"):
        iter_pictures(["memory://bucket/sub/deep"])
    monkeypatch.setattr(type(bucket), "_open", fail)
    monkeypatch.setattr(type(bucket), "ls", listing)
    monkeypatch.setattr(type(bucket), "info", lambda *_, **__: (_ for _ in ()).throw(StorageError("try again")))
    with pytest.raises(ValueError, match="StorageError"):
        iter_pictures(["memory://bucket/b.png"])


def test_fsspec_is_an_extra(bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    (tmp_path / "list.txt").write_text("memory://bucket/b.png\n")
    for source in ("memory://bucket", tmp_path / "list.txt"):
        with pytest.raises(OvsrError, match=r"reading 'memory://bucket.*needs a package more.*ovsr-gpu\[remote\]"):
            iter_pictures([source])


def test_the_web(tmp_path: Path) -> None:
    """A server that knows no ranges, and that tells pictures apart by the query."""
    pytest.importorskip("aiohttp")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.startswith("/photos/get.php?n=")
            self.send_response(200 if found else 404)
            self.end_headers()
            if found:
                self.wfile.write(picture_bytes(int(self.path.rpartition("=")[2])))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        urls = [f"http://{host}/photos/get.php?n={number}" for number in (3, 4)]
        (tmp_path / "list.txt").write_text("\n".join([*urls, f"http://{host}/gone.png"]))
        *pictures, gone = find_pictures([tmp_path / "list.txt"])
        assert [red(picture) for picture in pictures] == [3, 4]
        assert names(urls[0]) == ["get"]
        with pytest.raises(PictureError, match="no such file"):
            red(gone)
        server.shutdown()
    if sys.platform != "win32":
        assert [picture.name for picture in pictures] == [f"{host}/photos/get", f"{host}/photos/get~2"]


def test_what_urls_are_called() -> None:
    assert path_for_name("https://user:secret@host/a/b.jpg?token=1#x") == "host/a/b.jpg"
    assert path_for_name("s3://bucket/a?b#c.jpg") == "bucket/a?b#c.jpg"
    assert path_for_name("https://host") == "host"


def test_joining() -> None:
    assert join(Path("a"), "b/c.png") == Path("a/b/c.png") and join(Path("a"), "s3://b/c") == "s3://b/c"
    assert join("s3://a/", "/etc/passwd") == "s3://a/etc/passwd" and join("s3://a", "b") == "s3://a/b"
    assert join("memory://", "b") == "memory://b"
