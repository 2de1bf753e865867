from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.errors import ImageError, OvsrError
from ovsr_gpu.sources import gpu_decode
from ovsr_gpu.sources.decode import open_image, read_image
from ovsr_gpu.sources.gpu_decode import MAX_DIFFERENCE, MEAN_DIFFERENCE, GpuJpegDecoder

CUDA = torch.device("cuda")
ORIENTATION = 0x0112


class CpuStandIn:
    """torchcodec's CPU decoder in place of the GPU decoder; counts its calls."""

    def __init__(self, device: torch.device) -> None:
        self.calls = 0

    def __call__(self, data: Tensor) -> Tensor:
        from torchcodec.decoders import decode_jpeg

        self.calls += 1
        return decode_jpeg(data, mode="RGB").contiguous()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchcodec.decoders", reason="torchcodec is not installed")
    monkeypatch.setattr(gpu_decode, "_DecodeOnOwnStream", CpuStandIn)


@pytest.fixture
def decoder(stand_in: None, monkeypatch: pytest.MonkeyPatch) -> GpuJpegDecoder:
    """Return a decoder whose device is the CPU, without the self-test."""
    monkeypatch.setattr(gpu_decode, "_self_test", lambda decode: None)
    return GpuJpegDecoder(CUDA)


@pytest.fixture
def image() -> Image.Image:
    """Return a 57 x 35 image of smooth random colors."""
    small = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((57, 35), Image.Resampling.BICUBIC)


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def assert_same_image(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == torch.uint8 and actual.is_contiguous() and actual.shape == expected.shape
    difference = (actual.cpu().float() - expected).abs()
    assert difference.mean() <= MEAN_DIFFERENCE and difference.max() <= MAX_DIFFERENCE


def read(decoder: GpuJpegDecoder, path: Path) -> Tensor:
    with open_image(path) as file:
        return decoder(file)


def reason(read: Callable[[Path], Tensor], path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"dpi": (300, 300), "comment": "an image", "icc_profile": b"not a profile"},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_jpeg_files_are_decoded_on_the_device(
    tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image, mode: str, options: dict
) -> None:
    image.convert(mode).save(tmp_path / "a.jpg", **options)
    assert_same_image(read(decoder, tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg"))
    assert decoder._decode.calls == 1


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("written_as", ["exif", "xmp", "both"])
def test_orientation(
    tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image, orientation: int, written_as: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % (
        orientation if written_as == "xmp" else 3
    )
    tags = {"exif": {"exif": exif}, "xmp": {"xmp": xmp}, "both": {"exif": exif, "xmp": xmp}}[written_as]
    image.save(tmp_path / "a.jpg", **tags)
    assert_same_image(read(decoder, tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg"))
    assert decoder._decode.calls == 1


def test_other_files_go_to_pillow(tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image) -> None:
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.gif")
    image.save(tmp_path / "png_called.jpg", format="PNG")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.save(tmp_path / "rgb.jpg", keep_rgb=True)
    image.save(tmp_path / "two.mpo", format="MPO", save_all=True, append_images=[image])
    for path in tmp_path.iterdir():
        assert torch.equal(read(decoder, path), read_image(path)), path
    assert decoder._decode.calls == 0


def test_files_that_the_device_cannot_decode_go_to_pillow(
    tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image
) -> None:
    def fails(data: Tensor) -> Tensor:
        raise RuntimeError("Unknown chroma subsampling")

    decoder._decode = fails
    image.save(tmp_path / "a.jpg")
    assert torch.equal(read(decoder, tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("fraction", [0.02, 0.2, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_file_is_an_error_even_if_the_device_decodes_it(
    tmp_path: Path, decoder: GpuJpegDecoder, noise: Image.Image, fraction: float, progressive: bool
) -> None:
    decoder._decode = lambda data: torch.zeros(3, 64, 64, dtype=torch.uint8)
    thumbnail = io.BytesIO()
    noise.resize((32, 32)).save(thumbnail, "JPEG")
    noise.save(tmp_path / "complete.jpg", comment=thumbnail.getvalue(), progressive=progressive)
    content = (tmp_path / "complete.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: int(len(content) * fraction)])
    assert read(decoder, tmp_path / "complete.jpg").max() == 0
    assert reason(partial(read, decoder), tmp_path / "cut.jpg") == reason(read_image, tmp_path / "cut.jpg")


def test_bytes_after_the_end_of_the_image_do_not_matter(
    tmp_path: Path, decoder: GpuJpegDecoder, noise: Image.Image
) -> None:
    noise.save(tmp_path / "a.jpg")
    with open(tmp_path / "a.jpg", "ab") as file:
        file.write(b"a video, perhaps" * 1000)
    assert_same_image(read(decoder, tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg"))
    assert decoder._decode.calls == 1


def test_errors_are_those_of_read_image(tmp_path: Path, decoder: GpuJpegDecoder) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("just text, whatever it is called")
    (tmp_path / "start.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("empty.jpg", "text.jpg", "start.jpg", "folder.jpg", "missing.jpg", "a\0b.jpg"):
        assert reason(partial(read, decoder), tmp_path / name) == reason(read_image, tmp_path / name)
    assert decoder._decode.calls == 0


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_more_pixels_than_pillow_allows(
    tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    image.save(tmp_path / "a.jpg")
    for limit in (image.width * image.height - 1, 10):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            assert "MAX_IMAGE_PIXELS" in reason(partial(read, decoder), tmp_path / "a.jpg")
    assert decoder._decode.calls == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", image.width * image.height)
    assert read(decoder, tmp_path / "a.jpg").shape == (3, 35, 57)


def test_in_two_threads_at_once(tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(20)]
    for number, path in enumerate(paths):
        image.rotate(18 * number).resize((50 + number, 40)).save(path)
    with ThreadPoolExecutor(2) as pool:
        for path, actual in zip(paths, pool.map(partial(read, decoder), paths), strict=True):
            assert_same_image(actual, read_image(path))


def test_warning_filters_are_unchanged(
    tmp_path: Path, decoder: GpuJpegDecoder, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.save(tmp_path / "a.jpg")

    def changed(*_: object, **__: object) -> None:
        raise AssertionError("threads share the warning filters")

    monkeypatch.setattr(warnings, "filterwarnings", changed)
    read(decoder, tmp_path / "a.jpg")
    assert decoder._decode.calls == 1


def test_self_test_passes_a_correct_decoder(stand_in: None) -> None:
    assert GpuJpegDecoder(CUDA)._decode.calls == 160


@pytest.mark.parametrize(
    "corrupt",
    [
        torch.zeros_like,
        lambda pixels: pixels.flip(0),
        lambda pixels: pixels.transpose(1, 2),
        lambda pixels: pixels.index_fill(1, torch.tensor([20]), 0),
    ],
    ids=["black", "BGR", "turned", "one row"],
)
def test_self_test_detects_a_decoder_that_corrupts_every_third_image(
    stand_in: None, monkeypatch: pytest.MonkeyPatch, corrupt: Callable[[Tensor], Tensor]
) -> None:
    class Corrupts(CpuStandIn):
        def __call__(self, data: Tensor) -> Tensor:
            pixels = super().__call__(data)
            return pixels if self.calls % 3 else corrupt(pixels)

    monkeypatch.setattr(gpu_decode, "_DecodeOnOwnStream", Corrupts)
    with pytest.raises(OvsrError, match=r"failed the self-test .*'cuda'.*an image .*: update .*--gpu-decode"):
        GpuJpegDecoder(CUDA)


def test_self_test_detects_a_decoder_that_overwrites_earlier_images(
    stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overwrites(CpuStandIn):
        earlier = torch.zeros(0)

        def __call__(self, data: Tensor) -> Tensor:
            self.earlier.zero_()
            self.earlier = super().__call__(data)
            return self.earlier

    monkeypatch.setattr(gpu_decode, "_DecodeOnOwnStream", Overwrites)
    with pytest.raises(OvsrError, match="differs from Pillow's by"):
        GpuJpegDecoder(CUDA)


def test_missing_requirements_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OvsrError, match="CUDA device, got 'cpu'"):
        GpuJpegDecoder(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(OvsrError, match=r"'cuda' needs torchcodec.*pip install \"ovsr-gpu\[decode\]\""):
        GpuJpegDecoder(CUDA)


@pytest.mark.gpu
def test_on_a_device_that_is_busy(tmp_path: Path) -> None:
    pytest.importorskip("torchcodec.decoders", reason="torchcodec is not installed")
    files = [file for _ in range(10) for file in gpu_decode._self_test_files()]
    paths = [tmp_path / f"{number}.jpg" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    decoder = GpuJpegDecoder(CUDA)
    matrix = torch.ones(4096, 4096, device=CUDA)
    actual, means = [], []
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(partial(read, decoder), paths):
            matrix = matrix @ matrix / 4096
            assert pixels.is_cuda
            means.append(pixels.float().mean())  # queued after the product; for most images it is the last use
            actual.append(pixels if len(actual) % 4 == 0 else None)
            del pixels
    assert len(actual) == 200 and torch.all(matrix == 1)
    for path, pixels, mean in zip(paths, actual, means, strict=True):
        expected = read_image(path)
        assert abs(mean.item() - expected.float().mean()) <= MEAN_DIFFERENCE
        if pixels is not None:
            assert_same_image(pixels, expected)
