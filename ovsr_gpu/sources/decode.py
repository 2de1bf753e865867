"""Decoding: any image Pillow reads, as an upright 8-bit RGB tensor."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ovsr_gpu.errors import ImageError

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

LARGEST = 2**30
"""Bytes of an image that is read whole before it is decoded, as from a URL."""


class ImageFile(io.BufferedReader):
    """An open file that knows how many seconds it has waited for the disk."""

    def __init__(self, path: Path) -> None:
        self._timed = _TimedFile(path)
        super().__init__(self._timed)

    @property
    def disk_seconds(self) -> float:
        return self._timed.seconds


class _TimedFile(io.FileIO):
    seconds = 0.0

    def readinto(self, buffer: Buffer, /) -> int | None:
        return self._timed(super().readinto, buffer)

    def readall(self) -> bytes:
        return self._timed(super().readall)

    def _timed(self, read: Callable[..., T], *arguments: Any) -> T:
        start = time.perf_counter()
        try:
            return read(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


class ImageBytes(io.BytesIO):
    """An image read whole, as an open file that knows how many seconds that took."""

    def __init__(self, data: bytes, disk_seconds: float) -> None:
        super().__init__(data)
        self.disk_seconds = disk_seconds


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read the first frame of an image file as a `[3, H, W]` uint8 tensor on the CPU, see `to_rgb`.

    Raises ImageError, naming the file and the reason, where it is missing, a folder, empty, not an image,
    truncated, or larger than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    with open_image(path) as file:
        return decode_image(file)


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[ImageFile]:
    """Open an image file. What is wrong with it, found here or in the block, becomes an ImageError that names it."""
    with _errors_naming(path):
        path = Path(path)
        _check_file(path)
        with ImageFile(path) as file:
            yield file


@contextmanager
def open_bytes(shown: str, read: Callable[[], bytes], disk_seconds: float = 0.0) -> Iterator[ImageBytes]:
    """The same for an image that `read()` gives as bytes and that messages call `shown`.

    disk_seconds: what it cost before.
    """
    with _errors_naming(shown):
        start = time.perf_counter()
        data = read()
        if not data:
            raise ImageError("the file is empty")
        if len(data) > LARGEST:
            raise ImageError(f"it has more than {LARGEST} bytes")
        yield ImageBytes(data, disk_seconds + time.perf_counter() - start)


def decode_image(file: BinaryIO) -> Tensor:
    """What `read_image` makes of an open file; its errors do not name the file."""
    with Image.open(file) as image:
        check_size(*image.size)
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Tensor:
    """Turn a Pillow image of any mode into a `[3, H, W]` uint8 tensor on the CPU.

    The EXIF orientation is applied and transparency is laid over white. 16-bit gray is divided by 257; 32-bit integer
    gray likewise where its values fit 16 bits, else stretched from its least to its largest value. Float gray must
    lie in 0..1 or 0..255.

    Raises ImageError where the image has no pixels, cannot be decoded, or is of a mode that has no RGB form.
    """
    if 0 in image.size:
        raise ImageError(f"it has no pixels, its size is {image.width} x {image.height}")
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # on broken data Pillow's decoders raise nearly anything
        raise ImageError(f"it is truncated or broken ({error})") from error
    if upright.mode == "F" or upright.mode.startswith("I"):
        gray = _gray_to_8_bits(np.asarray(upright, dtype=np.float64), upright.mode)
        pixels = np.repeat(gray[:, :, None], 3, axis=2)
    else:
        pixels = np.array(_convert_to_rgb(upright))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@contextmanager
def _errors_naming(shown: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
        return
    except ImageError as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = "it is not an image in a format that Pillow reads"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"it has more pixels than PIL.Image.MAX_IMAGE_PIXELS allows ({error})"
    except FileNotFoundError:
        reason = "there is no such file"
    except OSError as error:
        reason = f"it cannot be opened ({error.strerror or error})"
    raise ImageError(f"cannot read {str(shown)!r}: {reason}")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ImageError("it is a folder, not a file")
    if not path.exists():
        raise ImageError("there is no such file")
    if not path.is_file():  # opening a pipe or a device could wait for ever
        raise ImageError("it is not a regular file")
    if path.stat().st_size == 0:
        raise ImageError("the file is empty")


def check_size(width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ImageError(
            f"its {width} x {height} pixels are more than the {limit} that PIL.Image.MAX_IMAGE_PIXELS allows "
            "(a decompression bomb?)"
        )


def _gray_to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    low, high = values.min(), values.max()
    if mode == "F":
        if not (low >= 0 and high <= 255):  # also true for NaN
            raise ImageError(f"its float values must lie in 0..1 or 0..255; they run from {low:g} to {high:g}")
        values = values * 255 if high <= 1 else values
    elif low >= 0 and high <= 65535:
        values = values / 257
    else:
        values = (values - low) * (255 / (high - low or 1))
    return np.rint(values).astype(np.uint8)


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    except ValueError as error:
        raise ImageError(f"its color mode {image.mode!r} cannot be turned into RGB ({error})") from error
