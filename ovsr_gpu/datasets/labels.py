"""Label maps: PNG files whose pixel values encode classes or void."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ovsr_gpu.errors import DatasetError
from ovsr_gpu.sources.decode import open_image
from ovsr_gpu.sources.image_source import ImageSource

VOID = -1
"""Class index of pixels that are ignored in evaluation (the `ignore_index` of other libraries)."""

_UNDEFINED = -2
_TRANSPOSING_ORIENTATIONS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class LabelEncoding:
    """The meaning of the values of label maps; any other value is an error.

    Attributes:
        classes: Value of each class, in the order of the vocabulary.
        void: Values of pixels that are ignored.
    """

    classes: Sequence[int]
    void: tuple[int, ...] = ()

    def decode(self, values: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Convert the values of a label map to class indices.

        Args:
            values: `[H, W]` uint8 values of the label map.

        Returns:
            `[H, W]` int32 class indices, VOID for void values.

        Raises:
            DatasetError: A value is undefined; the message names the first pixel with such a value.
        """
        table = np.full(256, _UNDEFINED, dtype=np.int32)
        table[list(self.void)] = VOID
        table[list(self.classes)] = np.arange(len(self.classes))
        indices = table[values]
        is_undefined = indices == _UNDEFINED
        if is_undefined.any():
            row, column = np.unravel_index(is_undefined.argmax(), is_undefined.shape)
            void = ", ".join(map(str, self.void)) or "no value"
            raise DatasetError(
                f"it holds {values[row, column]} in row {row}, column {column}; classes are {min(self.classes)} to "
                f"{max(self.classes)}, void is {void}; use label maps in the encoding that this dataset requires"
            )
        return indices


def read_target(label_path: Path, source: ImageSource, encoding: LabelEncoding) -> NDArray[np.int32]:
    """Read a label map as class indices.

    Args:
        label_path: The label map.
        source: Its image, for a check of the size.
        encoding: The meaning of the values.

    Returns:
        `[H, W]` int32 class indices, VOID for pixels that are ignored.

    Raises:
        ImageError: The image or the label map cannot be read.
        DatasetError: As `Example.target` does.
    """
    with open_image(label_path) as file, Image.open(file) as label_image:
        # Pillow stretches 2-bit and 4-bit gray to 0..255; for a palette of any bit depth it returns the indices.
        mode = label_image.tile[0].args if label_image.mode == "L" else label_image.mode
        if mode not in ("L", "P"):
            raise DatasetError(
                f"the label map {str(label_path)!r} must be an 8-bit gray or palette PNG whose values are the classes; "
                f"its mode is {mode}; convert it"
            )
        values = np.asarray(label_image)
    width, height = _upright_size(source)
    if values.shape != (height, width):
        raise DatasetError(
            f"the label map {str(label_path)!r} has {values.shape[1]} x {values.shape[0]} pixels, the image "
            f"{str(source.path)!r} {width} x {height}; they must have the same size: use both from the same release"
        )
    try:
        return encoding.decode(values)
    except DatasetError as error:
        raise DatasetError(f"the label map {str(label_path)!r} cannot be used: {error}") from None


def _upright_size(source: ImageSource) -> tuple[int, int]:
    """Return width and height of an image after its EXIF orientation is applied."""
    with source.open() as file, Image.open(file) as image:
        is_transposed = image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSING_ORIENTATIONS
        return image.size[::-1] if is_transposed else image.size
