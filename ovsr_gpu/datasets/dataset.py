"""What a dataset is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsr_gpu.datasets.labels import LabelRule, read_truth
from ovsr_gpu.datasets.layout import Layout
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.vocabulary import Vocabulary, ready_vocabulary


@dataclass(frozen=True)
class Example:
    """An image and its label map, both still on disk; the name of the image is unique in its dataset."""

    source: ImageSource
    label: Path
    rule: LabelRule

    def truth(self) -> NDArray[np.int32]:
        """The true class of each pixel of the upright image, `[H, W]`; VOID where nothing counts.

        Raises ImageError where one of the two files cannot be read, DatasetError where the label map is not a map of
        one 8-bit value a pixel, is of another size than the image, or holds a value that means nothing.
        """
        return read_truth(self.label, self.source, self.rule)


@dataclass(frozen=True)
class Dataset:
    """The examples of one dataset.

    vocabulary: its classes, in the order of the indices in `Example.truth`. background: the index of the class that
    stands for all that is none of the others, None where there is no such class. full_size: how many examples there are
    when it is complete, None where that is not known.
    """

    name: str
    vocabulary: Vocabulary
    examples: Sequence[Example]
    background: int | None = None
    full_size: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """A published dataset; `name` is also that of its ready vocabulary."""

    name: str
    layout: Layout
    rule: LabelRule
    full_size: int
    background: int | None = None

    def open(self, root: Path, names: list[str] | None) -> Dataset:
        """Find the examples, those of the `names` if given; raises DatasetError as `open_dataset` does."""
        vocabulary = ready_vocabulary(self.name)
        examples = find_examples(self.layout, root, names, self.rule)
        return Dataset(self.name, vocabulary, examples, self.background, self.full_size)


def find_examples(layout: Layout, root: Path, names: list[str] | None, rule: LabelRule) -> list[Example]:
    """The pairs of files of a layout as examples; raises DatasetError as `Layout.pairs` does."""
    return [
        Example(ImageSource(image, name), label, rule) for name, image, label in layout.pairs(layout.find(root), names)
    ]
