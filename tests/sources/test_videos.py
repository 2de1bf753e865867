"""Frames of videos, compared with sequential decoding from the first frame to the last."""

from __future__ import annotations

import gc
import json
import os
import pickle
import random
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_shards import read, reason
from typer.testing import CliRunner

from ovsr_gpu.cli import app
from ovsr_gpu.errors import OvsrError
from ovsr_gpu.sources import videos
from ovsr_gpu.sources.files import find_images, iter_images
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage
from ovsr_gpu.sources.loading import load_batches
from ovsr_gpu.sources.stored import stored_image
from ovsr_gpu.sources.videos import Frame

av = pytest.importorskip("av")

COUNT = 60
BITS = 6


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    videos._cached_reader.cache_clear()
    return tmp_path


def numbered(number: int, height: int = 48, width: int = 96) -> np.ndarray:
    """Return a frame whose stripes are the bits of its number, on a moving background."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 2, y * 3 + number, x + y + 5 * number], axis=2) % 256
    for bit in range(BITS):
        pixels[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = 255 * (number >> bit & 1)
    return pixels.astype(np.uint8)


def number_in(image: ImageSource) -> int:
    pixels = read(image).numpy()
    _, height, width = pixels.shape
    return sum(int(pixels[1, height // 4, (2 * bit + 1) * width // (2 * BITS)] > 127) << bit for bit in range(BITS))


def make_video(
    path: str,
    codec: str = "ffv1",
    pixel_format: str = "bgr0",
    *,
    frames: Sequence[np.ndarray] = (),
    times: Sequence[int] | None = None,
    rotation: int = 0,
    container: dict[str, str] | None = None,
    **options: str,
) -> None:
    frames = frames or [numbered(number) for number in range(COUNT)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = 20
        if rotation:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (times or range(COUNT))[number], Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def x264(path: str, **settings: Any) -> None:
    make_video(path, "libx264", "yuv420p", bf="2", crf="10", **settings)


KINDS = {
    "lossless.mkv": make_video,
    "reordered.mp4": x264,
    "no_index.ts": x264,
    "old.avi": lambda path: make_video(path, "mpeg4", "yuv420p", bf="2", b="2M"),
    "web.webm": lambda path: make_video(path, "libvpx", "yuv420p", **{"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "keys_only.mov": lambda path: make_video(path, "mjpeg", "yuvj420p"),
}


def decode_sequentially(path: str) -> list[np.ndarray]:
    with av.open(path) as file:
        return [frame.to_ndarray(format="rgb24").transpose(2, 0, 1) for frame in file.decode(video=0)]


def frames_of(path: str, stride: int = 1) -> list[Frame]:
    images = find_images([path], frame_stride=stride)
    assert all(isinstance(image, Frame) for image in images)
    return [image for image in images if isinstance(image, Frame)]


def indices_of(images: Sequence[Frame]) -> list[int]:
    return [image.position.frame_index for image in images]


@pytest.mark.parametrize("name", KINDS)
def test_frames_equal_sequential_decoding(name: str) -> None:
    KINDS[name](name)
    expected = decode_sequentially(name)
    assert len(expected) == COUNT
    for stride in (7, 20, 1):
        images = frames_of(name, stride)
        assert indices_of(images) == list(range(0, COUNT, stride))
        shuffled = random.Random(stride).sample(images, len(images))
        for image in images + shuffled:
            assert (read(image).numpy() == expected[image.position.frame_index]).all()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(number_in, images + shuffled)) == indices_of(images + shuffled)


def test_names_of_frames_and_opening_them_again() -> None:
    make_video("in/clip.mkv")
    images = frames_of("in/clip.mkv", 25)
    assert [image.name for image in images] == ["clip/000000", "clip/000025", "clip/000050"]
    assert str(images[1].path) == f"{Path('in/clip.mkv')}::000025"
    reopened = [stored_image(image.name, str(image.path), json.dumps(image.locator)) for image in images]
    assert pickle.loads(pickle.dumps(images)) == images
    assert [image.identity for image in reopened] == [image.identity for image in images]
    assert [number_in(image) for image in reopened] == [0, 25, 50]
    [batch] = load_batches([images])
    assert [image.disk_seconds for image in batch.images] == [0, 0, 0]
    assert len(batch.image_batch.result()) == 3


def test_videos_by_patterns_and_in_folders() -> None:
    for name in ("in/a/clip.mkv", "in/b/clip.mkv", "in/b/clip.mp4"):
        x264(name)
    Path("in/still.png").touch()
    names = [image.name for image in find_images(["in/*/*.mkv"], frame_stride=40)]
    assert names == ["a/clip/000000", "a/clip/000040", "b/clip/000000", "b/clip/000040"]
    found = find_images(["in/a/clip.mkv", "in/b/clip.mp4", "./in/a/clip.mkv"], frame_stride=40)
    assert [image.name for image in found] == ["clip/000000", "clip/000040", "clip/000000~2", "clip/000040~2"]
    assert len({image.identity for image in found}) == 4
    assert [image.name for image in find_images(["in"], frame_stride=1)] == ["still"]


def test_frames_of_uneven_length() -> None:
    times = [number + 9 * (number // 10) + (number > 33) for number in range(COUNT)]
    make_video("a.mkv", times=times)
    images = frames_of("a.mkv", 11)
    assert [number_in(image) for image in images] == indices_of(images) == list(range(0, COUNT, 11))


def test_a_video_is_read_forward_and_skipped_frames_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    x264("a.mp4")
    starts = []
    start = videos._VideoReader._start
    monkeypatch.setattr(videos._VideoReader, "_start", lambda video: (starts.append(video), start(video)))
    images = frames_of("a.mp4")
    for first in range(0, COUNT, videos.FRAME_CACHE_SIZE):  # an order in which threads may request the frames
        assert [number_in(image) for image in images[first : first + videos.FRAME_CACHE_SIZE][::-1]]
    assert len(starts) == 1 and not starts[0]._cache
    number_in(images[0]), number_in(images[15])
    assert len(starts) == 2 and len(starts[0]._cache) == videos.FRAME_CACHE_SIZE


def test_distant_frames_are_decoded_from_their_keyframe(monkeypatch: pytest.MonkeyPatch) -> None:
    x264("a.mp4")
    decoded = []
    decode = videos._decoded
    monkeypatch.setattr(
        videos, "_decoded", lambda container: (decoded.append(frame) or frame for frame in decode(container))
    )
    assert [number_in(image) for image in frames_of("a.mp4", 45)] == [0, 45]
    assert len(decoded) <= 1 + 20  # the distance of keyframes


def test_only_a_few_videos_stay_open() -> None:
    references = []
    gc.disable()
    try:
        for number in range(videos.MAX_OPEN_VIDEOS + 2):
            make_video(f"{number}.mkv", frames=[numbered(number)])
            [image] = frames_of(f"{number}.mkv")
            assert number_in(image) == number
            references.append(weakref.ref(videos._reader_of(image)))
        assert [reference() is None for reference in references] == [True] * 2 + [False] * videos.MAX_OPEN_VIDEOS
    finally:
        gc.enable()


def test_a_replaced_file_is_opened_again() -> None:
    for number in (3, 4):
        make_video("a.mkv", frames=[numbered(number)])
        os.utime("a.mkv", (number, number))
        assert [number_in(image) for image in frames_of("a.mkv")] == [number]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (9, 0.2627, 0.0593)])
def test_colors(full_range: bool, matrix: int, red: float, blue: float) -> None:
    y, u, v = 150, 90, 170
    with av.open("a.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.color_range, stream.codec_context.colorspace = 1 + full_range, matrix
        frame = av.VideoFrame(32, 32, "yuv444p")
        for plane, value in zip(frame.planes, (y, u, v), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.color_range, frame.colorspace = 1 + full_range, matrix
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    luma, scale = (y / 255, 255) if full_range else ((y - 16) / 219, 224)
    r, b = (luma + 2 * (1 - fraction) * (chroma - 128) / scale for fraction, chroma in ((red, v), (blue, u)))
    expected = 255 * np.array([r, (luma - red * r - blue * b) / (1 - red - blue), b])
    [image] = frames_of("a.mp4")
    assert np.abs(read(image).numpy()[:, 16, 16] - expected).max() <= 1


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_frames_are_turned_upright(degrees: int) -> None:
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write such a video")
    x264("a.mp4", rotation=degrees)
    image = frames_of("a.mp4")[5]
    assert (read(image).numpy() == np.rot90(decode_sequentially("a.mp4")[5], degrees // 90, axes=(1, 2))).all()


@pytest.mark.parametrize(("pixel_format", "height", "width"), [("bgra", 33, 47), ("yuv420p", 31, 45), ("gray", 17, 9)])
def test_odd_sizes_and_alpha(pixel_format: str, height: int, width: int) -> None:
    make_video("a.mkv", "ffv1", pixel_format, frames=[numbered(1, height, width)])
    [image] = frames_of("a.mkv")
    assert read(image).shape == (3, height, width)
    if pixel_format == "bgra":
        assert (read(image).numpy() == numbered(1, height, width).transpose(2, 0, 1)).all()


def test_only_the_missing_part_of_a_truncated_video_is_lost() -> None:
    x264("a.mp4", container={"movflags": "faststart"})
    expected = decode_sequentially("a.mp4")
    content = Path("a.mp4").read_bytes()
    Path("a.mp4").write_bytes(content[: len(content) * 2 // 3])
    *frames, failure = find_images(["a.mp4"], frame_stride=1)
    assert len(frames) > COUNT // 2
    assert all((read(frame).numpy() == pixels).all() for frame, pixels in zip(frames, expected, strict=False))
    assert isinstance(failure, UnreadableImage) and "truncated or broken: 1 of its frames" in reason(failure)


def test_broken_data_affect_only_frames_up_to_the_next_keyframe() -> None:
    make_video("a.mkv")
    expected = decode_sequentially("a.mkv")
    content = bytearray(Path("a.mkv").read_bytes())
    with av.open("a.mkv") as file:
        packets = [bytes(packet) for packet in file.demux(video=0)]
    start = content.find(packets[30])
    content[start : start + len(packets[30])] = random.Random(0).randbytes(len(packets[30]))
    Path("a.mkv").write_bytes(content)
    failed = []
    for image in frames_of("a.mkv"):
        try:
            same = bool((read(image).numpy() == expected[image.position.frame_index]).all())
        except OvsrError as error:
            assert f"a.mkv::{image.position.frame_index:06}" in str(error) and "damaged there" in str(error)
            same = False
        failed += [] if same else [image.position.frame_index]
    assert failed == list(range(30, 40))


def test_a_deleted_video() -> None:
    make_video("a.mkv")
    image = frames_of("a.mkv")[0]
    Path("a.mkv").unlink()
    assert "no such file" in reason(image)


def silence(path: str) -> None:
    with av.open(path, "w", format="matroska") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))


@pytest.mark.parametrize(
    "make", [lambda path: Path(path).write_bytes(b""), lambda path: Path(path).write_text("no"), silence]
)
def test_what_is_no_video(make: Any) -> None:
    make_video("good.mkv", frames=[numbered(5)])
    make("bad.mkv")
    with pytest.raises(
        ValueError, match=r"the video 'bad\.mkv' cannot be read: FFmpeg cannot read it as a video \(.+\)"
    ):
        iter_images(["good.mkv", "bad.mkv"], frame_stride=1)
    bad, good = find_images(["*.mkv"], frame_stride=1)
    assert "'bad.mkv': FFmpeg cannot read it" in reason(bad) and number_in(good) == 5


def test_the_stride_is_required() -> None:
    make_video("a.mkv")
    for source in ("a.mkv", "*.mkv"):
        with pytest.raises(
            ValueError, match=r"is a video, of which every Nth frame is labelled: set N with --frame-stride"
        ):
            iter_images([source])
    with pytest.raises(ValueError, match="must be at least 1; got 0"):
        iter_images(["a.mkv"], frame_stride=0)
    answer = CliRunner().invoke(app, ["label", "a.mkv", "--classes", "sky", "--out", "out"])
    assert answer.exit_code == 2 and "--frame-stride" in answer.output


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    make_video("a.mkv", frames=[numbered(0)])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(OvsrError, match=r'pip install "ovsr-gpu\[video\]"'):
        iter_images(["a.mkv"], frame_stride=1)


def test_videos_behind_urls() -> None:
    files = pytest.importorskip("fsspec").filesystem("memory")
    make_video("a.mkv")
    files.pipe("/videos/a.mkv", Path("a.mkv").read_bytes())
    try:
        images = find_images(["memory://videos/*.mkv"], frame_stride=30)
        assert [number_in(image) for image in images] == [0, 30]
        assert [image.name for image in images] == ["a/000000", "a/000030"]
        [url, _] = images
        assert stored_image(url.name, str(url.path), json.dumps(url.locator)) == replace(url, path=str(url.path))
    finally:
        files.rm("/videos", recursive=True)
