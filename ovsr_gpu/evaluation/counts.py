"""Contingency tables of predicted and target labels, and ratios of counts."""

from __future__ import annotations

import torch
from torch import Tensor


def contingency_tables(prediction: Tensor, target: Tensor, num_predicted: int, num_target: int) -> Tensor:
    """Count the pixels of each image by predicted and target label.

    Args:
        prediction: `[B, ...]` integers in 0..num_predicted - 1.
        target: Integers of the same shape in -1..num_target - 1; -1 is void and is not counted.
        num_predicted: Number of predicted labels.
        num_target: Number of target labels.

    Returns:
        `[B, num_predicted, num_target]` int64.

    Raises:
        ValueError: The shapes differ or a label is out of range.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have the same shape; got {list(prediction.shape)} and {list(target.shape)}"
        )
    check_labels("predicted", prediction, 0, num_predicted)
    check_labels("target", target, -1, num_target)
    num_images = len(prediction)
    image_index = torch.arange(num_images, device=prediction.device)[:, None]
    rows = image_index * num_predicted + prediction.reshape(num_images, -1)
    cells = rows * (num_target + 1) + target.reshape(num_images, -1).long() + 1
    counts = torch.bincount(cells.flatten(), minlength=num_images * num_predicted * (num_target + 1))
    return counts.view(num_images, num_predicted, num_target + 1)[:, :, 1:]


def check_labels(name: str, labels: Tensor, start: int, stop: int) -> None:
    """Check that all labels are integers with start <= label < stop.

    Args:
        name: The kind of the labels, for the message.
        labels: Integers of any shape.
        start: Minimum label.
        stop: Maximum label + 1.

    Raises:
        ValueError: A label is not an integer or is out of range.
    """
    if labels.is_floating_point():
        raise ValueError(f"{name} labels must be integers; got {labels.dtype}")
    if labels.numel():
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < start or highest >= stop:
            raise ValueError(f"{name} labels must lie in {start}..{stop - 1}; got {lowest}..{highest}")


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator in float64, NaN where both are 0."""
    return numerator.double() / denominator


def nanmean(values: Tensor) -> float:
    """Return the mean of the values that are not NaN."""
    return float(values.nanmean())


def json_list(values: Tensor) -> list[float | None]:
    """Return the values as a list for JSON, with None in place of NaN."""
    return [None if value != value else value for value in values.tolist()]
