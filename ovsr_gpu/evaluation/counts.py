"""Counting pixels by two labels at once, and counts as figures."""

from __future__ import annotations

import torch
from torch import Tensor


def joint_counts(found: Tensor, truth: Tensor, found_labels: int, true_labels: int) -> Tensor:
    """Pixels of each image by found and true label: `[B, found_labels, true_labels]` int64.

    found: `[B, ...]` integers from 0 on. truth: integers of the same shape, -1 for void, which counts nowhere.
    Raises ValueError where the shapes differ or a label is none of these.
    """
    if found.shape != truth.shape:
        raise ValueError(f"the found labels have the shape {list(found.shape)}, the true ones {list(truth.shape)}")
    check_labels("found", found, 0, found_labels)
    check_labels("true", truth, -1, true_labels)
    images = len(found)
    image = torch.arange(images, device=found.device)[:, None]
    rows = image * found_labels + found.reshape(images, -1)
    cells = rows * (true_labels + 1) + truth.reshape(images, -1).long() + 1
    counts = torch.bincount(cells.flatten(), minlength=images * found_labels * (true_labels + 1))
    return counts.view(images, found_labels, true_labels + 1)[:, :, 1:]


def check_labels(what: str, labels: Tensor, first: int, end: int) -> None:
    """Raise ValueError unless the labels are integers from `first` on, below `end`."""
    if labels.is_floating_point():
        raise ValueError(f"{what} labels must be integers; got {labels.dtype}")
    if labels.numel():
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < first or highest >= end:
            raise ValueError(f"{what} labels must lie in {first}..{end - 1}; got {lowest}..{highest}")


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole in float64, NaN where both are 0."""
    return part.double() / whole


def mean(values: Tensor) -> float:
    """The mean over the values that are not NaN."""
    return float(values.nanmean())


def listed(values: Tensor) -> list[float | None]:
    """The values as JSON knows them: None for NaN."""
    return [None if value != value else value for value in values.tolist()]
