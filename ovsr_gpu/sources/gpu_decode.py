"""Decoding on a CUDA device: plain JPEG files by torchcodec, that is by nvJPEG, and all others by Pillow on the CPU."""

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
"""Gray levels by which an image of the self-test may differ from Pillow's, on average and anywhere.

Decoders round differently, and where color is subsampled Pillow interpolates it, while nvJPEG may repeat it: 1.6 and 6
levels when simulated on the self-test's slow color ramps. At sharp edges of color honest decoders differ by more.
"""

ROUNDS = 8
ORIENTATION = ExifTags.Base.Orientation


class GpuJpegDecoder:
    """Decodes images as `decode_image` does, but plain JPEG files on a CUDA device.

    Raises OvsrError where `device` is not a CUDA device, torchcodec is not installed, or the self-test made here fails.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise OvsrError(
                f"torchcodec decodes JPEG files on a CUDA device, got {str(device)!r}: leave out --gpu-decode"
            )
        try:
            self._decode: Callable[[Tensor], Tensor] = _DecodeOnOwnStream(device)
            _self_test(self._decode)
        except ImportError as error:
            raise OvsrError(
                f"decoding JPEG files on {str(device)!r} needs torchcodec, which cannot be imported ({error}): "
                'pip install "ovsr-gpu[decode]", or leave out --gpu-decode'
            ) from error
        except (OSError, RuntimeError) as error:
            raise OvsrError(
                f"torchcodec failed the self-test of decoding JPEG files on {str(device)!r} ({error}): "
                "update it and the driver, or leave out --gpu-decode"
            ) from error

    def __call__(self, file: BinaryIO) -> Tensor:
        """Decode an open file to `[3, H, W]` uint8, upright; may be called from several threads at once.

        A whole JPEG file in 8-bit gray or YCbCr is decoded on the device; it differs from what `decode_image` gives
        as decoders differ, and where its data are damaged perhaps by more. It may be used at once, on the stream that
        is current in the calling thread. Every other file, and any that the device cannot decode, goes to
        `decode_image`: the tensor then lies on the CPU, and the errors are the same.
        """
        with suppress(Exception):  # decode_image copes with the file, or says what is wrong with it
            return self._decode(_read_plain_jpeg(file))
        file.seek(0)
        return decode_image(file)


class _DecodeOnOwnStream(threading.local):
    """Decodes a JPEG file, `[N]` uint8 on the CPU, to `[3, H, W]` on the device, in each thread on a stream of its own.

    nvJPEG's hardware engine ignores the order of the stream it is given and may write where kernels queued before it
    still read (pytorch/vision#9606, meta-pytorch/torchcodec#1634). Hence the stream is drained before, and after; as
    the models' work is on another, nothing waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        from torchcodec.decoders import decode_jpeg  # an optional dependency

        self._decode_jpeg = decode_jpeg
        self._stream = torch.cuda.Stream(device)

    def __call__(self, data: Tensor) -> Tensor:
        users_stream = torch.cuda.current_stream(self._stream.device)
        with torch.cuda.stream(self._stream):
            self._stream.synchronize()
            pixels = self._decode_jpeg(data, mode="RGB", device=self._stream.device)
            assert isinstance(pixels, Tensor)  # a list comes only for a list
            pixels = pixels.contiguous()
            self._stream.synchronize()
        pixels.record_stream(users_stream)  # freed memory is decoded into only when the work queued there is done
        return pixels


def _read_plain_jpeg(file: BinaryIO) -> Tensor:
    """The bytes `[N]` of a file that the device can decode, with its orientation in front; raises for any other."""
    with Image.open(file, formats=["JPEG"]) as image:
        check_size(*image.size)
        # An MPO is of a class of its own. Components of other numbers are RGB or YCbCr by rules that decoders may lack.
        ycbcr = [number for number, *_ in image.layer] == [1, 2, 3] and image.info.get("adobe_transform", 1) == 1
        if type(image) is not JpegImageFile or not (image.mode == "L" or ycbcr):
            raise ValueError("it is a JPEG file of another kind")
        orientation = Image.Exif()
        orientation[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
        start_of_scan = file.tell()
    file.seek(0)
    data = bytearray(file.read())  # given bytes, torchcodec would change the warning filters, which threads share
    # nvJPEG may decode what is left of a truncated file. No scan contains the end marker, but a thumbnail before may.
    if data.find(b"\xff\xd9", start_of_scan) < 0:
        raise ValueError("it is truncated")
    # torchcodec turns images, but by the first EXIF segment alone; Pillow knows more ways to write an orientation.
    segment = orientation.tobytes()
    data[2:2] = b"\xff\xe1" + (2 + len(segment)).to_bytes(2, "big") + segment
    return torch.frombuffer(data, dtype=torch.uint8)


def _self_test(decode: Callable[[Tensor], Tensor]) -> None:
    """Raises RuntimeError where an image, decoded again and again, differs from what Pillow makes of it."""
    files = list(_self_test_files())
    decoded = [decode(_read_plain_jpeg(io.BytesIO(file))) for _ in range(ROUNDS) for file in files]
    expected = [to_rgb(Image.open(io.BytesIO(file))) for file in files] * ROUNDS
    for found, truth in zip(decoded, expected, strict=True):  # only now, to see whether one was written over another
        if found.shape != truth.shape:
            raise RuntimeError(f"an image has the shape {list(found.shape)} instead of {list(truth.shape)}")
        difference = (found.cpu().float() - truth).abs()
        if difference.mean() > MEAN_DIFFERENCE or difference.max() > MAX_DIFFERENCE:
            raise RuntimeError(
                f"an image differs from Pillow's by {difference.mean():.1f} gray levels on average and "
                f"{difference.max():.0f} at most, more than {MEAN_DIFFERENCE} and {MAX_DIFFERENCE}"
            )


def _self_test_files() -> Iterator[bytes]:
    """Color ramps, bare and under a gray pattern, as every kind of JPEG file that is decoded on the device."""
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    kinds: list[tuple[str, dict[str, object]]] = [("L", {}), ("RGB", {"progressive": True}), ("RGB", {"exif": turned})]
    kinds += [("RGB", {"subsampling": subsampling}) for subsampling in ("4:2:0", "4:4:4")]
    for height, width in ((33, 47), (480, 640)):
        y, x = np.mgrid[:height, :width]
        ramps = 64 + 128 * np.stack([x / width, y / height, 1 - x / width], axis=2)
        for pixels in (ramps, ramps + 60 * ((x // 3 + y // 5) % 2)[:, :, None]):
            for mode, options in kinds:
                file = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(file, "JPEG", quality=95, **options)
                yield file.getvalue()
