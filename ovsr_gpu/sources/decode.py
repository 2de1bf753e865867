"""Decode any image that Pillow reads to an upright 8-bit RGB tensor."""

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

MAX_IMAGE_BYTES = 2**30
"""Maximum size, in bytes, of an image that is read completely before it is decoded, such as one behind a URL."""


class ImageFile(io.BufferedReader):
    """An open file that measures the time spent on reading, in `disk_seconds`."""

    def __init__(self, path: Path) -> None:
        self._timed = _TimedFile(path)
        super().__init__(self._timed)

    @property
    def disk_seconds(self) -> float:
        """Time spent on reading so far, in seconds."""
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
    """The bytes of an image as an open file.

    Attributes:
        disk_seconds: Time spent on reading, in seconds.
    """

    def __init__(self, data: bytes, disk_seconds: float) -> None:
        super().__init__(data)
        self.disk_seconds = disk_seconds


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read the first frame of an image file.

    Args:
        path: The file.

    Returns:
        `[3, H, W]` uint8 tensor on the CPU, see `to_rgb`.

    Raises:
        ImageError: The file is missing, a folder, empty, not an image, truncated, or has more than
            `PIL.Image.MAX_IMAGE_PIXELS` pixels; the message names the file and the reason.
    """
    with open_image(path) as file:
        return decode_image(file)


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[ImageFile]:
    """Open an image file.

    Raises:
        ImageError: The file cannot be opened, or the block raises an error about it; the message names the file.
    """
    with _errors_naming(path):
        path = Path(path)
        _check_file(path)
        with ImageFile(path) as file:
            yield file


@contextmanager
def open_bytes(label: str, read: Callable[[], bytes], disk_seconds: float = 0.0) -> Iterator[ImageBytes]:
    """Open an image that is read completely first, with the errors of `open_image`.

    Args:
        label: Name of the image in messages.
        read: Function that returns the bytes of the image.
        disk_seconds: Time already spent on reading, in seconds.

    Yields:
        The bytes as an open file.

    Raises:
        ImageError: As `open_image`; also if there are no bytes or more than `MAX_IMAGE_BYTES`.
    """
    with _errors_naming(label):
        start = time.perf_counter()
        data = read()
        if not data:
            raise ImageError("the file is empty")
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageError(f"it has more than {MAX_IMAGE_BYTES} bytes")
        yield ImageBytes(data, disk_seconds + time.perf_counter() - start)


def decode_image(file: BinaryIO) -> Tensor:
    """Decode the first frame of an open image file.

    Args:
        file: Binary file.

    Returns:
        `[3, H, W]` uint8 tensor on the CPU, see `to_rgb`.

    Raises:
        ImageError: The image has too many pixels or cannot be decoded. Other errors are those of Pillow. No message
            names the file.
    """
    with Image.open(file) as image:
        check_size(*image.size)
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Tensor:
    """Convert a Pillow image of any mode to 8-bit RGB.

    The EXIF orientation is applied, and transparency is composited over white. 16-bit gray is divided by 257; so is
    32-bit integer gray if its values fit 16 bits, otherwise it is stretched from its minimum to its maximum. Float
    gray must lie in 0..1 or 0..255.

    Args:
        image: The image; it is not modified.

    Returns:
        `[3, H, W]` uint8 tensor on the CPU.

    Raises:
        ImageError: The image has no pixels, cannot be decoded, or has a mode without a conversion to RGB.
    """
    if 0 in image.size:
        raise ImageError(f"it has no pixels: its size is {image.width} x {image.height}")
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's decoders raise errors of many types for broken data
        raise ImageError(f"it is truncated or broken ({error})") from error
    if upright.mode == "F" or upright.mode.startswith("I"):
        gray = _gray_to_8_bits(np.asarray(upright, dtype=np.float64), upright.mode)
        pixels = np.repeat(gray[:, :, None], 3, axis=2)
    else:
        pixels = np.array(_convert_to_rgb(upright))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@contextmanager
def _errors_naming(label: str | os.PathLike[str]) -> Iterator[None]:
    """Convert errors of the block to an ImageError that names the image."""
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
    raise ImageError(f"cannot read {str(label)!r}: {reason}")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ImageError("it is a folder, not a file")
    if not path.exists():
        raise ImageError("there is no such file")
    if not path.is_file():  # opening a pipe or a device could block forever
        raise ImageError("it is not a regular file")
    if path.stat().st_size == 0:
        raise ImageError("the file is empty")


def check_size(width: int, height: int) -> None:
    """Raise ImageError if an image has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ImageError(
            f"its {width} x {height} pixels are more than the {limit} that PIL.Image.MAX_IMAGE_PIXELS allows "
            "(a decompression bomb?)"
        )


def _gray_to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale `[H, W]` float64 gray values of a 16-bit, 32-bit or float image to uint8, see `to_rgb`."""
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
        raise ImageError(f"its color mode {image.mode!r} cannot be converted to RGB ({error})") from error
