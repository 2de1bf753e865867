"""Label maps: PNG files with one value a pixel, which stands for a class or for nothing that counts."""

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
"""The class index of a pixel that counts nowhere."""

_MEANINGLESS = -2
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class LabelRule:
    """What the values of label maps mean; any other value is an error.

    classes: the value of each class, in the order of the vocabulary. void: the values of pixels that count nowhere.
    """

    classes: Sequence[int]
    void: tuple[int, ...] = ()

    def indices(self, values: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The class index of each value of `[H, W]`, or VOID.

        Raises DatasetError, with the place of the first one, for a value that means nothing.
        """
        table = np.full(256, _MEANINGLESS, dtype=np.int32)
        table[list(self.void)] = VOID
        table[list(self.classes)] = np.arange(len(self.classes))
        indices = table[values]
        meaningless = indices == _MEANINGLESS
        if meaningless.any():
            row, column = np.unravel_index(meaningless.argmax(), meaningless.shape)
            void = ", ".join(map(str, self.void)) or "no value"
            raise DatasetError(
                f"it holds {values[row, column]} in row {row}, column {column}; classes are {min(self.classes)} to "
                f"{max(self.classes)}, void is {void}; take the label maps of this dataset in the encoding it asks for"
            )
        return indices


def read_truth(label: Path, source: ImageSource, rule: LabelRule) -> NDArray[np.int32]:
    """Read a label map as class indices, `[H, W]`; raises ImageError and DatasetError as `Example.truth` does."""
    with open_image(label) as file, Image.open(file) as label_image:
        # Pillow stretches gray of 2 and 4 bits to 0..255; of a palette it gives the indices, whatever their bits.
        mode = label_image.tile[0].args if label_image.mode == "L" else label_image.mode
        if mode not in ("L", "P"):
            raise DatasetError(
                f"the label map {str(label)!r} must be a PNG of 8-bit gray or of a palette, its values the classes; "
                f"it is of mode {mode}; convert it"
            )
        values = np.asarray(label_image)
    width, height = _upright_size(source)
    if values.shape != (height, width):
        raise DatasetError(
            f"the label map {str(label)!r} is {values.shape[1]} x {values.shape[0]}, the image "
            f"{str(source.path)!r} {width} x {height}; they must be of one size: take both from the same release"
        )
    try:
        return rule.indices(values)
    except DatasetError as error:
        raise DatasetError(f"the label map {str(label)!r} cannot be used: {error}") from None


def _upright_size(source: ImageSource) -> tuple[int, int]:
    with source.open() as file, Image.open(file) as opened:
        turned = opened.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        return opened.size[::-1] if turned else opened.size
