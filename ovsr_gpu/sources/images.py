"""Load images from tensors, arrays, PIL images and paths into one batch on the device."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.image_batch import ImageBatch, Pixels
from ovsr_gpu.sources.decode import read_image, to_rgb

ImageLike = Pixels | Image.Image | str | os.PathLike[str]


def load_image_batch(images: Tensor | Sequence[ImageLike] | ImageBatch, device: torch.device) -> ImageBatch:
    """Load images and copy them to the device as one batch.

    Args:
        images: `[B, 3, H, W]` uint8 tensor, a list of `[3, H, W]` uint8 tensors, `[H, W, 3]` uint8 arrays, PIL images
            or paths, or a batch.
        device: Device of the result.

    Returns:
        The batch of B images.

    Raises:
        ImageError: An image cannot be read, or has another shape or dtype.
    """
    if isinstance(images, (Tensor, ImageBatch, str, bytes, os.PathLike)) or not isinstance(images, Sequence):
        return ImageBatch.of(images, device)  # type: ignore[arg-type]  # raises for anything but images
    return ImageBatch.of([_pixels(image) for image in images], device)


def _pixels(image: ImageLike) -> Pixels:
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    return to_rgb(image) if isinstance(image, Image.Image) else image
