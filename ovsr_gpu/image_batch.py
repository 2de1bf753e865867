"""Images of any kind and size as one padded batch on the device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovsr_gpu.errors import ImageError
from ovsr_gpu.results import Maps
from ovsr_gpu.runtime.async_copy import to_device

Pixels = Tensor | np.ndarray[Any, Any]
"""One image: a `[3, H, W]` uint8 tensor or an `[H, W, 3]` uint8 array."""


@dataclass(frozen=True)
class ImageBatch:
    """B images at the top left of one canvas.

    pixels: `[B, 3, H, W]` uint8, zero outside the images. sizes: `[B, 2]` int64, height and width of each.
    own_sizes: the same on the host where the images came as a list, None where they came as one tensor.
    """

    pixels: Tensor
    sizes: Tensor
    own_sizes: tuple[tuple[int, int], ...] | None

    @classmethod
    def of(cls, images: Tensor | Sequence[Pixels] | ImageBatch, device: torch.device) -> ImageBatch:
        """Bring `[B, 3, H, W]` uint8, a list of tensors or arrays, or a batch to the device.

        Raises ImageError for an image that cannot be read or has another shape or dtype.
        """
        if isinstance(images, ImageBatch):
            pixels, sizes = to_device([images.pixels, images.sizes], device)
            return cls(pixels, sizes, images.own_sizes)
        if isinstance(images, Tensor):
            if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8 or 0 in images.shape:
                raise ImageError(
                    f"expected a non-empty [B, 3, H, W] uint8 tensor; got {list(images.shape)} {images.dtype}"
                )
            sides = [torch.full((len(images),), side, device=device) for side in images.shape[2:]]
            return cls(images.to(device), torch.stack(sides, dim=1), None)
        if isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Sequence):
            raise ImageError(
                f"expected a [B, 3, H, W] uint8 tensor or a list of images; got {type(images).__name__} "
                "(put a single image in a list)"
            )
        if not images:
            raise ImageError("expected at least one image; got an empty list")
        return cls.of(cls.gather([_as_tensor(image) for image in images], pinned=device.type == "cuda"), device)

    @classmethod
    def gather(cls, images: Sequence[Tensor], *, pinned: bool) -> ImageBatch:
        """Put images `[3, H, W]` uint8 on one canvas, on the host, in pinned memory if so said.

        Where not all of them lie on the host the canvas lies on the device of the others.
        """
        device = next((image.device for image in images if not image.is_cpu), torch.device("cpu"))
        pinned = pinned and device.type == "cpu"
        own_sizes = tuple((image.shape[1], image.shape[2]) for image in images)
        height, width = (max(sides) for sides in zip(*own_sizes, strict=True))
        shape = (len(images), 3, height, width)
        canvas = torch.zeros(shape, dtype=torch.uint8, device=device, pin_memory=pinned)
        for slot, image in zip(canvas, images, strict=True):
            slot[:, : image.shape[1], : image.shape[2]] = image
        return cls(canvas, torch.tensor(own_sizes, pin_memory=pinned), own_sizes)

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def split(self, size: int) -> list[ImageBatch]:
        """Runs of at most `size` images, as tensors on the same canvas."""
        parts = zip(self.pixels.split(size), self.sizes.split(size), strict=True)
        return [ImageBatch(pixels, sizes, None) for pixels, sizes in parts]

    def crop_maps(self, maps: Tensor) -> Maps:
        """Cut a `[B, H, W]` map to the images' own sizes, in the form in which the images came."""
        if self.own_sizes is None:
            return maps
        return [one[:height, :width] for one, (height, width) in zip(maps, self.own_sizes, strict=True)]

    def pad_maps(self, maps: Maps) -> Tensor:
        """The inverse of `crop_maps`: `[B, H, W]` on this canvas, zero outside the images."""
        if isinstance(maps, Tensor):
            maps = list(maps)
        expected = self.own_sizes or (tuple(self.pixels.shape[2:]),) * len(self)
        if [tuple(one.shape) for one in maps] != list(expected):
            raise ImageError(
                f"the segmentation belongs to other images: expected maps of sizes {list(expected)}, "
                f"got {[tuple(one.shape) for one in maps]}"
            )
        canvas = torch.zeros(len(self), *self.pixels.shape[2:], dtype=torch.int32, device=self.pixels.device)
        for slot, one in zip(canvas, maps, strict=True):
            slot[: one.shape[0], : one.shape[1]] = one
        return canvas


def _as_tensor(image: Pixels) -> Tensor:
    """One image as `[3, H, W]` uint8."""
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or 0 in image.shape:
            raise ImageError(f"expected a non-empty [3, H, W] uint8 tensor; got {list(image.shape)} {image.dtype}")
        return image
    if getattr(image, "dtype", None) != "uint8" or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        kind = type(image).__name__
        raise ImageError(
            "expected a [3, H, W] uint8 tensor, a non-empty [H, W, 3] uint8 array, a PIL image or a path; "
            f"got {kind} {getattr(image, 'shape', '')} {getattr(image, 'dtype', '')}".rstrip()
        )
    return torch.tensor(image).permute(2, 0, 1)
