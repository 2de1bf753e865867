"""A padded batch of images of any size on the device."""

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
    """B images, each at the top left of its canvas; all canvases have the same size.

    Attributes:
        pixels: `[B, 3, H, W]` uint8, zero outside the images.
        sizes: `[B, 2]` int64 on the device, height and width of each image.
        host_sizes: The same sizes on the host if the images came as a list, None if they came as one tensor.
    """

    pixels: Tensor
    sizes: Tensor
    host_sizes: tuple[tuple[int, int], ...] | None

    @classmethod
    def of(cls, images: Tensor | Sequence[Pixels] | ImageBatch, device: torch.device) -> ImageBatch:
        """Copy images to the device.

        Args:
            images: `[B, 3, H, W]` uint8, a list of images of any sizes (see `Pixels`), or a batch.
            device: The target device.

        Returns:
            The batch on the device.

        Raises:
            ImageError: An image has an unsupported type, shape or dtype, or there are no images.
        """
        if isinstance(images, ImageBatch):
            pixels, sizes = to_device([images.pixels, images.sizes], device)
            return cls(pixels, sizes, images.host_sizes)
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
        return cls.of(cls.collate([_as_tensor(image) for image in images], pin_memory=device.type == "cuda"), device)

    @classmethod
    def collate(cls, images: Sequence[Tensor], *, pin_memory: bool) -> ImageBatch:
        """Pad images to a common size and stack them.

        The batch lies on the host if all images do, else on the device of the first image that does not.

        Args:
            images: `[3, H, W]` uint8 each, at least one.
            pin_memory: Whether to allocate the batch in pinned memory; only used on the host.

        Returns:
            The batch.
        """
        device = next((image.device for image in images if not image.is_cpu), torch.device("cpu"))
        pin_memory = pin_memory and device.type == "cpu"
        host_sizes = tuple((image.shape[1], image.shape[2]) for image in images)
        height, width = (max(sides) for sides in zip(*host_sizes, strict=True))
        shape = (len(images), 3, height, width)
        canvas = torch.zeros(shape, dtype=torch.uint8, device=device, pin_memory=pin_memory)
        for slot, image in zip(canvas, images, strict=True):
            slot[:, : image.shape[1], : image.shape[2]] = image
        return cls(canvas, torch.tensor(host_sizes, pin_memory=pin_memory), host_sizes)

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def split(self, size: int) -> list[ImageBatch]:
        """Split into consecutive batches of at most `size` images with the same canvas; their `host_sizes` are None."""
        parts = zip(self.pixels.split(size), self.sizes.split(size), strict=True)
        return [ImageBatch(pixels, sizes, None) for pixels, sizes in parts]

    def crop_maps(self, maps: Tensor) -> Maps:
        """Crop `[B, H, W]` maps to the sizes of the images; return one tensor if the images came as one tensor."""
        if self.host_sizes is None:
            return maps
        return [image_map[:height, :width] for image_map, (height, width) in zip(maps, self.host_sizes, strict=True)]

    def pad_maps(self, maps: Maps) -> Tensor:
        """Invert `crop_maps`: return `[B, H, W]` int32 maps on the canvas, zero outside the images.

        Raises:
            ImageError: The maps do not have the sizes of the images.
        """
        if isinstance(maps, Tensor):
            maps = list(maps)
        expected = self.host_sizes or (tuple(self.pixels.shape[2:]),) * len(self)
        if [tuple(image_map.shape) for image_map in maps] != list(expected):
            raise ImageError(
                f"the segmentation belongs to other images: expected maps of sizes {list(expected)}, "
                f"got {[tuple(image_map.shape) for image_map in maps]}"
            )
        canvas = torch.zeros(len(self), *self.pixels.shape[2:], dtype=torch.int32, device=self.pixels.device)
        for slot, image_map in zip(canvas, maps, strict=True):
            slot[: image_map.shape[0], : image_map.shape[1]] = image_map
        return canvas


def _as_tensor(image: Pixels) -> Tensor:
    """Return one image as `[3, H, W]` uint8."""
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
