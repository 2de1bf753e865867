"""Decode baseline and progressive JPEG files on a CUDA device with torchcodec (nvJPEG), all other files with Pillow."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.sources.decode import check_size, decode_image, to_rgb

MEAN_DIFFERENCE = 3
MAX_DIFFERENCE = 16
"""Maximum difference, on average and per value, between an image of the self-test and Pillow's result, in gray levels.

Decoders round differently, and where chroma is subsampled Pillow interpolates it, while nvJPEG may repeat it: 1.6 and 6
levels in a simulation on the smooth color ramps of the self-test. At sharp color edges, correct decoders differ more.
"""

SELF_TEST_ROUNDS = 8
ORIENTATION = ExifTags.Base.Orientation


class GpuJpegDecoder:
    """A decoder like `decode_image` that decodes ordinary JPEG files on a CUDA device.

    Args:
        device: The CUDA device.

    Raises:
        OvsrError: `device` is not a CUDA device, torchcodec is not installed, or the self-test, which runs here, fails.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise OvsrError(f"torchcodec decodes JPEG files on a CUDA device, got {str(device)!r}: omit --gpu-decode")
        try:
            self._decode: Callable[[Tensor], Tensor] = _DecodeOnOwnStream(device)
            _self_test(self._decode)
        except ImportError as error:
            raise OvsrError(
                f"decoding JPEG files on {str(device)!r} needs torchcodec, which cannot be imported ({error}): "
                'pip install "ovsr-gpu[decode]", or omit --gpu-decode'
            ) from error
        except (OSError, RuntimeError) as error:
            raise OvsrError(
                f"torchcodec failed the self-test of JPEG decoding on {str(device)!r} ({error}): "
                "update torchcodec and the driver, or omit --gpu-decode"
            ) from error

    def __call__(self, file: BinaryIO) -> Tensor:
        """Decode an open file; safe to call from several threads at once.

        A complete JPEG file in 8-bit gray or YCbCr is decoded on the device. The result differs from that of
        `decode_image` by rounding, and possibly by more where the data are damaged. It can be used immediately on the
        current stream of the calling thread. `decode_image` decodes every other file, and any that the device cannot
        decode.

        Args:
            file: Binary file.

        Returns:
            `[3, H, W]` uint8 tensor, upright, on the device or, from `decode_image`, on the CPU.

        Raises:
            ImageError: As `decode_image` does.
        """
        with suppress(Exception):  # decode_image decodes the file or raises the error to report
            return self._decode(_read_plain_jpeg(file))
        file.seek(0)
        return decode_image(file)


class _DecodeOnOwnStream(threading.local):
    """A decoder from a JPEG file, `[N]` uint8 on the CPU, to `[3, H, W]` on the device, with one stream per thread.

    nvJPEG's hardware engine ignores the order of its stream and may overwrite memory that kernels queued earlier still
    read (pytorch/vision#9606, meta-pytorch/torchcodec#1634). Therefore the stream is synchronized before and after
    decoding; the models run on another stream and do not wait for it.
    """

    def __init__(self, device: torch.device) -> None:
        from torchcodec.decoders import decode_jpeg  # an optional dependency

        self._decode_jpeg = decode_jpeg
        self._stream = torch.cuda.Stream(device)

    def __call__(self, data: Tensor) -> Tensor:
        caller_stream = torch.cuda.current_stream(self._stream.device)
        with torch.cuda.stream(self._stream):
            self._stream.synchronize()
            pixels = self._decode_jpeg(data, mode="RGB", device=self._stream.device)
            assert isinstance(pixels, Tensor)  # a list comes only for a list
            pixels = pixels.contiguous()
            self._stream.synchronize()
        pixels.record_stream(caller_stream)  # its memory is reused only after the work queued there
        return pixels


def _read_plain_jpeg(file: BinaryIO) -> Tensor:
    """Return the bytes `[N]` of a JPEG file that the device can decode, with its orientation in the first EXIF segment.

    Any other file raises an exception.
    """
    with Image.open(file, formats=["JPEG"]) as image:
        check_size(*image.size)
        # An MPO file has another class. Whether other component ids mean RGB or YCbCr is not the same in all decoders.
        is_ycbcr = [number for number, *_ in image.layer] == [1, 2, 3] and image.info.get("adobe_transform", 1) == 1
        if type(image) is not JpegImageFile or not (image.mode == "L" or is_ycbcr):
            raise ValueError("it is a JPEG file of another kind")
        orientation = Image.Exif()
        orientation[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
        start_of_scan = file.tell()
    file.seek(0)
    data = bytearray(file.read())  # for bytes torchcodec would change the warning filters, which threads share
    # nvJPEG may decode the rest of a truncated file. The end marker never occurs in a scan, but may in a thumbnail.
    if data.find(b"\xff\xd9", start_of_scan) < 0:
        raise ValueError("it is truncated")
    # torchcodec applies the orientation of the first EXIF segment only; Pillow finds it in more places.
    segment = orientation.tobytes()
    data[2:2] = b"\xff\xe1" + (2 + len(segment)).to_bytes(2, "big") + segment
    return torch.frombuffer(data, dtype=torch.uint8)


def _self_test(decode: Callable[[Tensor], Tensor]) -> None:
    """Raise RuntimeError if an image, decoded repeatedly, differs from Pillow's result."""
    files = list(_self_test_files())
    decoded = [decode(_read_plain_jpeg(io.BytesIO(file))) for _ in range(SELF_TEST_ROUNDS) for file in files]
    expected = [to_rgb(Image.open(io.BytesIO(file))) for file in files] * SELF_TEST_ROUNDS
    # Compare after all are decoded, to detect an image that was overwritten by a later one.
    for actual, reference in zip(decoded, expected, strict=True):
        if actual.shape != reference.shape:
            raise RuntimeError(f"an image has the shape {list(actual.shape)} instead of {list(reference.shape)}")
        difference = (actual.cpu().float() - reference).abs()
        if difference.mean() > MEAN_DIFFERENCE or difference.max() > MAX_DIFFERENCE:
            raise RuntimeError(
                f"an image differs from Pillow's by {difference.mean():.1f} gray levels on average and "
                f"{difference.max():.0f} at most, more than {MEAN_DIFFERENCE} and {MAX_DIFFERENCE}"
            )


def _self_test_files() -> Iterator[bytes]:
    """Yield color ramps, with and without a gray pattern, as every kind of JPEG file that the device decodes."""
    rotated = Image.Exif()
    rotated[ORIENTATION] = 6
    kinds: list[tuple[str, dict[str, object]]] = [("L", {}), ("RGB", {"progressive": True}), ("RGB", {"exif": rotated})]
    kinds += [("RGB", {"subsampling": subsampling}) for subsampling in ("4:2:0", "4:4:4")]
    for height, width in ((33, 47), (480, 640)):
        y, x = np.mgrid[:height, :width]
        ramps = 64 + 128 * np.stack([x / width, y / height, 1 - x / width], axis=2)
        for pixels in (ramps, ramps + 60 * ((x // 3 + y // 5) % 2)[:, :, None]):
            for mode, options in kinds:
                file = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(file, "JPEG", quality=95, **options)
                yield file.getvalue()
