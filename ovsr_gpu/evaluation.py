"""Scores of segmentation and recognition against ground truth. Not part of the hot path: this is NumPy and SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Counts = NDArray[np.int64]


def hungarian_miou(regions: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Per-image Hungarian mIoU.

    regions and truth: integers of the same shape, the region and the true class of each pixel. The regions are matched
    one to one to the classes present so that the sum of IoU is the largest (Kuhn 1955, by SciPy); the result is the
    mean IoU over the classes present, 0 for one that got no region.
    """
    _, region = np.unique(regions, return_inverse=True)
    _, label = np.unique(truth, return_inverse=True)
    shared = confusion_counts(label, region, int(label.max()) + 1, int(region.max()) + 1)
    union = shared.sum(0) + shared.sum(1, keepdims=True) - shared
    iou = shared / union
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / len(iou))


def confusion_counts(truth: NDArray[np.integer], found: NDArray[np.integer], rows: int, columns: int) -> Counts:
    """Pixels of each true class (rows) that were given each class (columns): `[rows, columns]` int64."""
    pair = truth.astype(np.int64).ravel() * columns + found.ravel()
    return np.bincount(pair, minlength=rows * columns).reshape(rows, columns)


def labelled_iou(counts: Counts) -> NDArray[np.float64]:
    """IoU of each class of `confusion_counts`, NaN for one that has no pixel.

    Columns beyond the rows ("something else") are misses of the true class and false alarms of none.
    """
    hits = np.diagonal(counts)
    union = counts.sum(1) + counts[:, : len(counts)].sum(0) - hits
    return np.where(counts.sum(1) > 0, hits / np.maximum(union, 1), np.nan)
