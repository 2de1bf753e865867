from __future__ import annotations

import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources.decode import read_image, to_rgb


@pytest.fixture
def photo() -> np.ndarray:
    """Return `[24, 40, 3]` uint8 smooth random colors, which JPEG changes little."""
    small = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((40, 24), Image.Resampling.BICUBIC))


def as_array(image: torch.Tensor) -> np.ndarray:
    assert image.dtype == torch.uint8 and image.device.type == "cpu" and image.is_contiguous()
    return image.permute(1, 2, 0).numpy()


def bomb_png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header declares many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_files_are_decoded_exactly(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(as_array(read_image(path)), photo)
    assert np.array_equal(as_array(read_image(str(path))), photo)


@pytest.mark.parametrize("size", [(1, 1), (3, 10000), (10000, 3)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, size[1], size[0])
    assert [int(channel.min()) for channel in image] == [1, 2, 3] == [int(channel.max()) for channel in image]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, photo: np.ndarray, orientation: int) -> None:
    # The transform from the upright image to the stored pixels, from the EXIF table.
    stored = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(as_array(read_image(tmp_path / "a.png")), photo)


def test_sixteen_bit_gray_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        image = as_array(read_image(tmp_path / f"a.{suffix}"))
        assert image[0].tolist() == [[level] * 3 for level in (0, 0, 1, 1, 128, 255)]
    big_endian = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    assert as_array(to_rgb(big_endian))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_32_bit_gray(tmp_path: Path) -> None:
    within_16_bits = np.array([[0, 257, 65535]], np.int32)
    assert as_array(to_rgb(Image.fromarray(within_16_bits)))[0, :, 1].tolist() == [0, 1, 255]
    Image.fromarray(np.array([[-1000, 0, 99000]], np.int32)).save(tmp_path / "a.tif")
    assert as_array(read_image(tmp_path / "a.tif"))[0, :, 2].tolist() == [0, 3, 255]
    constant = np.full((2, 2), 10**6, np.int32)
    assert as_array(to_rgb(Image.fromarray(constant))).max() == 0


def test_float_gray() -> None:
    unit, bytes_ = np.array([[0, 0.5, 1]], np.float32), np.array([[0, 1.2, 255]], np.float32)
    assert as_array(to_rgb(Image.fromarray(unit)))[0, :, 0].tolist() == [0, 128, 255]
    assert as_array(to_rgb(Image.fromarray(bytes_)))[0, :, 0].tolist() == [0, 1, 255]
    for bad in (-0.1, 256, np.nan, np.inf):
        with pytest.raises(ImageError, match=r"0\.\.1 or 0\.\.255"):
            to_rgb(Image.fromarray(np.array([[0, bad]], np.float32)))


def test_palette_bilevel_and_gray(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png")
    assert as_array(read_image(tmp_path / "p.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    bilevel = Image.new("1", (2, 1))
    bilevel.putpixel((0, 0), 1)
    assert as_array(to_rgb(bilevel)).tolist() == [[[255] * 3, [0] * 3]]
    assert as_array(to_rgb(Image.new("L", (1, 1), 77))).tolist() == [[[77] * 3]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = as_array(read_image(tmp_path / "a.jpg"))
    assert red[..., 0].min() > 250 and red[..., 1:].max() < 5


def test_alpha_is_composited_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [100, 0, 200, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = [[255, 255, 255], [10, 20, 30], [224, 204, 244]]  # 255 + (value - 255) * alpha
    assert as_array(read_image(tmp_path / "a.png"))[0].tolist() == expected
    gray = Image.fromarray(np.array([[[0, 0], [50, 255]]], np.uint8), "LA")
    assert as_array(to_rgb(gray))[0].tolist() == [[255] * 3, [50] * 3]


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert as_array(read_image(tmp_path / "a.png"))[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_the_first_frame_of_an_animation_is_decoded(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (as_array(read_image(tmp_path / "a.gif")) == [255, 0, 0]).all()


def test_the_callers_image_is_not_modified(photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    image.getexif()[0x0112] = 6
    to_rgb(image)
    assert image.size == (40, 24) and image.getexif()[0x0112] == 6


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, fraction: float) -> None:
    for suffix in ("jpg", "png", "gif", "tif", "webp"):
        noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"complete.{suffix}")
        content = (tmp_path / f"complete.{suffix}").read_bytes()
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(content[: int(len(content) * fraction)])
        with pytest.raises(ImageError, match=r"cannot read .*cut"):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"just text, whatever it is called", "not an image"), (b"\x00" * 500, "not an image")],
)
def test_files_that_are_not_images(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "a.jpg")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nothing\.png.*no such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="no such file"):
        read_image("a\0b.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_raises_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("side", [10_000, 14_000, 60_000])  # Pillow warns about the first two and rejects the last
def test_decompression_bombs_in_many_threads(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb_png(side, side))

    def reason(_: int) -> str:
        with pytest.raises(ImageError) as caught:
            read_image(path)
        return str(caught.value)

    for action in ("ignore", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            with ThreadPoolExecutor(4) as pool:
                assert all("MAX_IMAGE_PIXELS" in message for message in pool.map(reason, range(8)))


def test_pillows_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="20 x 20"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / "a.png").shape == (3, 20, 20)


def test_images_without_pixels_or_without_an_rgb_form() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        to_rgb(Image.new("RGB", (0, 5)))
    with pytest.raises(ImageError, match="'La' cannot be converted to RGB"):
        to_rgb(Image.new("La", (2, 2)))


def test_pillows_globals_are_unchanged() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == (1024 * 1024 * 1024 // 4 // 3)
