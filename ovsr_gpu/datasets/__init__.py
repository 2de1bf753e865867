"""Labelled datasets: images with the ground-truth class of each pixel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ovsr_gpu.datasets.ade20k import ADE20K_150
from ovsr_gpu.datasets.camvid import CAMVID_11
from ovsr_gpu.datasets.cityscapes import CITYSCAPES_19
from ovsr_gpu.datasets.coco import COCO_OBJECT_81, COCO_STUFF_171
from ovsr_gpu.datasets.context import CONTEXT_59, CONTEXT_60
from ovsr_gpu.datasets.dataset import Dataset, Example
from ovsr_gpu.datasets.folder import open_folder, open_msrc
from ovsr_gpu.datasets.labels import VOID
from ovsr_gpu.datasets.layout import read_names
from ovsr_gpu.datasets.voc import VOC20, VOC21

__all__ = ["DATASETS", "VOID", "Dataset", "Example", "open_dataset"]

_BENCHMARKS = [
    VOC20,
    VOC21,
    CONTEXT_59,
    CONTEXT_60,
    ADE20K_150,
    COCO_STUFF_171,
    COCO_OBJECT_81,
    CITYSCAPES_19,
    CAMVID_11,
]
_OPENERS: dict[str, Callable[[Path, list[str] | None], Dataset]] = {
    **{benchmark.name: benchmark.open for benchmark in _BENCHMARKS},
    "msrc-23": open_msrc,
    "folder": open_folder,
}

DATASETS = tuple(_OPENERS)
"""Names that `open_dataset` accepts. All except "folder" are also names of built-in vocabularies."""


def open_dataset(name: str, root: str | os.PathLike[str], names_file: str | os.PathLike[str] | None = None) -> Dataset:
    """Find the examples of a dataset on disk, without reading any image.

    Args:
        name: One of `DATASETS`.
        root: Folder of the dataset, or one above it if the `folders` of its layout allow it.
        names_file: Text file with the names of the examples to keep, one per line, in this order.

    Returns:
        The dataset.

    Raises:
        ValueError: The name is unknown.
        DatasetError: A folder or file is missing (the message lists the expected ones), or a name of `names_file` is
            not in the dataset.
        VocabularyError: The file with the classes cannot be used.
    """
    if name not in _OPENERS:
        raise ValueError(f"there is no dataset {name!r}; the datasets are {', '.join(DATASETS)}")
    return _OPENERS[name](Path(root), None if names_file is None else read_names(Path(names_file)))
