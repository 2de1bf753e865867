"""Batched antialiased crop and resize of boxes, with the results of Pillow 13's `Image.crop().resize()`, bit by bit."""

from ovsr_gpu.kernels.crop_resize.crops import Normalisation, RegionMask, crop_resize
from ovsr_gpu.kernels.crop_resize.crops_torch import crop_masks, normalise

__all__ = ["Normalisation", "RegionMask", "crop_masks", "crop_resize", "normalise"]
