"""Labelled data sets as examples: a picture and the true class of each of its pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ovsr_gpu.datasets.ade20k import ADE20K_150
from ovsr_gpu.datasets.camvid import CAMVID_11
from ovsr_gpu.datasets.cityscapes import CITYSCAPES_19
from ovsr_gpu.datasets.coco import COCO_OBJECT_81, COCO_STUFF_171
from ovsr_gpu.datasets.context import CONTEXT_59, CONTEXT_60
from ovsr_gpu.datasets.dataset import DataSet, Example
from ovsr_gpu.datasets.folder import open_folder, open_msrc
from ovsr_gpu.datasets.labels import VOID
from ovsr_gpu.datasets.layout import read_names
from ovsr_gpu.datasets.voc import VOC20, VOC21

__all__ = ["DATA_SETS", "VOID", "DataSet", "Example", "open_data_set"]

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
_OPENERS: dict[str, Callable[[Path, list[str] | None], DataSet]] = {
    **{benchmark.name: benchmark.open for benchmark in _BENCHMARKS},
    "msrc-23": open_msrc,
    "folder": open_folder,
}

DATA_SETS = tuple(_OPENERS)
"""The names that `open_data_set` knows. All but "folder" are names of ready vocabularies, too."""


def open_data_set(name: str, root: str | os.PathLike[str], names_file: str | os.PathLike[str] | None = None) -> DataSet:
    """Find the examples of a data set on disk; no picture is read yet.

    name: one of `DATA_SETS`. root: the folder of the data set, or one above it where its module says so. names_file:
    a text file with the names of the examples to keep, one a line, in this order.

    Raises ValueError for another name; DataSetError, which shows the folders and files expected, where some are
    missing, or a name of `names_file` is not in the data set; VocabularyError for a classes file that cannot be used.
    """
    if name not in _OPENERS:
        raise ValueError(f"there is no data set {name!r}; there are {', '.join(DATA_SETS)}")
    return _OPENERS[name](Path(root), None if names_file is None else read_names(Path(names_file)))
