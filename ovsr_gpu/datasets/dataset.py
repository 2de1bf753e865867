"""The types of a labelled dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsr_gpu.datasets.labels import LabelEncoding, read_target
from ovsr_gpu.datasets.layout import Layout
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.vocabulary import Vocabulary, builtin_vocabulary


@dataclass(frozen=True)
class Example:
    """An image and its label map, both on disk.

    Attributes:
        source: The image; its name is unique in the dataset.
        label_path: The label map.
        encoding: The meaning of the values of the label map.
    """

    source: ImageSource
    label_path: Path
    encoding: LabelEncoding

    def target(self) -> NDArray[np.int32]:
        """Read the ground truth.

        Returns:
            `[H, W]` int32 class index of each pixel of the upright image, VOID for pixels that are ignored.

        Raises:
            ImageError: The image or the label map cannot be read.
            DatasetError: The label map does not have one 8-bit value per pixel, differs in size from the image, or
                holds an undefined value.
        """
        return read_target(self.label_path, self.source, self.encoding)


@dataclass(frozen=True)
class Dataset:
    """The examples of a dataset.

    Attributes:
        name: Name of the dataset.
        vocabulary: Its classes, in the order of the indices in `Example.target`.
        examples: Its examples.
        background_index: Index of the class of all pixels that belong to no other class, None without such a class.
        expected_size: Number of examples of the complete dataset, None if unknown.
    """

    name: str
    vocabulary: Vocabulary
    examples: Sequence[Example]
    background_index: int | None = None
    expected_size: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """A published dataset.

    Attributes:
        name: Name of the dataset and of its built-in vocabulary.
        layout: Its files.
        encoding: The meaning of the values of its label maps.
        expected_size: Number of examples of the complete dataset.
        background_index: As in `Dataset`.
    """

    name: str
    layout: Layout
    encoding: LabelEncoding
    expected_size: int
    background_index: int | None = None

    def open(self, root: Path, names: list[str] | None) -> Dataset:
        """Find the examples of the dataset.

        Args:
            root: Folder of the dataset, or one above it.
            names: Names of the examples to keep, in this order; None keeps all.

        Returns:
            The dataset.

        Raises:
            DatasetError: As `open_dataset` does.
        """
        vocabulary = builtin_vocabulary(self.name)
        examples = find_examples(self.layout, root, names, self.encoding)
        return Dataset(self.name, vocabulary, examples, self.background_index, self.expected_size)


def find_examples(layout: Layout, root: Path, names: list[str] | None, encoding: LabelEncoding) -> list[Example]:
    """Return the examples of a layout.

    Args:
        layout: The files of the dataset.
        root: Folder of the dataset, or one above it.
        names: Names of the examples to keep, in this order; None keeps all.
        encoding: The meaning of the values of the label maps.

    Returns:
        The examples.

    Raises:
        DatasetError: As `Layout.find` and `Layout.pairs` do.
    """
    pairs = layout.pairs(layout.find(root), names)
    return [Example(ImageSource(image, name), label_path, encoding) for name, image, label_path in pairs]
