"""Images behind URLs, in fsspec's in-memory file system."""

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

from ovsr_gpu.errors import ImageError, OvsrError
from ovsr_gpu.sources import decode
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.files import find_images, iter_images
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage
from ovsr_gpu.sources.loading import load_batches
from ovsr_gpu.sources.locations import join, path_for_name

fsspec = pytest.importorskip("fsspec")


def image_bytes(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def bucket() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    names = ["b.png", "sub/a.png", "sub/deep/c.JPG", "sub/notes.md", "sub/.hidden.png", "odd?#[1].png"]
    files.pipe({f"/bucket/{name}": image_bytes(red) for red, name in enumerate(names)})
    yield files
    files.rm("/bucket", recursive=True)


def names(*sources: str) -> list[str]:
    return [image.name for image in find_images(sources)]


def red(image: ImageSource) -> int:
    with image.open() as file:
        return int(decode_image(file)[0, 0, 0])


def test_folders_files_and_patterns(bucket: Any) -> None:
    everything = ["b", "odd?#[1]", "sub/a", "sub/deep/c"]
    assert names("memory://bucket") == names("memory://bucket/") == names("memory://bucket/**/*") == everything
    assert names("memory://*/*.png") == ["bucket/b", "bucket/odd?#[1]"]
    assert names("memory://bucket/sub/*.png", "memory://bucket/sub") == ["a", "deep/c"]
    assert names("memory://bucket/odd?#[1].png", "memory://bucket/sub/notes.md") == ["odd?#[1]", "notes"]
    images = find_images(["memory://bucket"])
    assert images[2].path == "memory://bucket/sub/a.png"
    assert [red(image) for image in images] == [0, 5, 1, 2]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(red, pickle.loads(pickle.dumps(images)) * 4)) == [0, 5, 1, 2] * 4
    [batch] = load_batches([images])
    assert all(image.disk_seconds > 0 for image in batch.images)


def test_archives_behind_urls(bucket: Any) -> None:
    with bucket.open("/bucket/shards/0001.tar", "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number, name in enumerate(["x.png", "y/z.png"], 10):
            member = tarfile.TarInfo(name)
            member.size = len(image_bytes(number))
            tar.addfile(member, io.BytesIO(image_bytes(number)))
    for source in ("memory://bucket/shards/0001.tar", "memory://bucket/shards/*.tar"):
        images = find_images([source])
        assert [image.name for image in images] == ["0001/x", "0001/y/z"]
        assert images[0].path == "memory://bucket/shards/0001.tar::x.png"
        assert [red(image) for image in images] == [10, 11]


def test_lists_of_urls_and_behind_urls(bucket: Any, tmp_path: Path) -> None:
    lines = "memory://bucket/sub/a.png\nmemory://bucket/gone.png\nunknown://x.png\n"
    (tmp_path / "list.txt").write_text(lines)
    bucket.pipe("/bucket/sub/list.csv", b"url,n\na.png,1\nmemory://bucket/b.png,2\n/deep/c.JPG,3\n")
    good, gone, unknown = find_images([tmp_path / "list.txt"])
    assert (good.name, red(good)) == ("bucket/sub/a", 1)
    with pytest.raises(ImageError, match=r"cannot read 'memory://bucket/gone\.png': there is no such file"):
        red(gone)
    with pytest.raises(OvsrError, match=r"'unknown://x\.png' cannot be read \(Protocol not known"):
        red(unknown)
    images = find_images(["memory://bucket/sub/list.csv"])
    assert [(image.name, red(image)) for image in images] == [("a", 1), ("bucket/b", 0), ("deep/c", 2)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://bucket/nothing.png", "'memory://bucket/nothing.png' does not exist"),
        ("memory://bucket/nothing/", "no image in 'memory://bucket/nothing/'"),
        ("memory://nothing/**/*.png", "no image in 'memory://nothing/"),
        ("memory://bucket/*.gif", "no image in"),
    ],
)
def test_urls_without_images(bucket: Any, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iter_images(["memory://bucket/b.png", source])


def test_empty_and_huge_files(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.pipe("/bucket/empty.png", b"")
    monkeypatch.setattr(decode, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(ImageError, match="empty"):
        red(ImageSource("memory://bucket/empty.png", "empty"))
    with pytest.raises(ImageError, match="more than 10 bytes"):
        red(ImageSource("memory://bucket/b.png", "b"))


def test_a_storage_back_end_with_its_own_errors(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class StorageError(Exception):
        pass

    listing = type(bucket).ls

    def fail(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("deep"):
            raise StorageError("try again")
        return listing(self, path, **options)

    monkeypatch.setattr(type(bucket), "ls", fail)
    images = find_images(["memory://bucket/sub"])
    assert [type(image) for image in images] == [ImageSource, UnreadableImage]
    with pytest.raises(ImageError, match=r"the folder cannot be listed \(StorageError: try again\)"):
        images[1].open()
    with pytest.raises(ValueError, match=r"'memory://bucket/sub/deep' cannot be read \(StorageError: try again\)"):
        iter_images(["memory://bucket/sub/deep"])
    monkeypatch.setattr(type(bucket), "_open", fail)
    monkeypatch.setattr(type(bucket), "ls", listing)
    monkeypatch.setattr(type(bucket), "info", lambda *_, **__: (_ for _ in ()).throw(StorageError("try again")))
    with pytest.raises(ValueError, match="StorageError"):
        iter_images(["memory://bucket/b.png"])


def test_missing_fsspec(bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    (tmp_path / "list.txt").write_text("memory://bucket/b.png\n")
    for source in ("memory://bucket", tmp_path / "list.txt"):
        with pytest.raises(OvsrError, match=r"reading 'memory://bucket.*an additional package.*ovsr-gpu\[remote\]"):
            iter_images([source])


def test_http(tmp_path: Path) -> None:
    """A server without range requests that selects images by the query."""
    pytest.importorskip("aiohttp")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            exists = self.path.startswith("/photos/get.php?n=")
            self.send_response(200 if exists else 404)
            self.end_headers()
            if exists:
                self.wfile.write(image_bytes(int(self.path.rpartition("=")[2])))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        urls = [f"http://{host}/photos/get.php?n={number}" for number in (3, 4)]
        (tmp_path / "list.txt").write_text("\n".join([*urls, f"http://{host}/gone.png"]))
        *images, gone = find_images([tmp_path / "list.txt"])
        assert [red(image) for image in images] == [3, 4]
        assert names(urls[0]) == ["get"]
        with pytest.raises(ImageError, match="no such file"):
            red(gone)
        server.shutdown()
    if sys.platform != "win32":
        assert [image.name for image in images] == [f"{host}/photos/get", f"{host}/photos/get~2"]


def test_names_of_urls() -> None:
    assert path_for_name("https://user:secret@host/a/b.jpg?token=1#x") == "host/a/b.jpg"
    assert path_for_name("s3://bucket/a?b#c.jpg") == "bucket/a?b#c.jpg"
    assert path_for_name("https://host") == "host"


def test_join() -> None:
    assert join(Path("a"), "b/c.png") == Path("a/b/c.png") and join(Path("a"), "s3://b/c") == "s3://b/c"
    assert join("s3://a/", "/etc/passwd") == "s3://a/etc/passwd" and join("s3://a", "b") == "s3://a/b"
    assert join("memory://", "b") == "memory://b"
