"""Validation of linkage matrices."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, convert_like


class ClusterWarning(UserWarning):
    """A warning about input that is probably a mistake."""


def is_valid_linkage(Z: Array, warning: bool = False, throw: bool = False, name: str | None = None) -> bool:
    """Return whether Z is a linkage matrix; for a batch, whether all its matrices are.

    Args:
        Z: Array to check: `[..., P-1, 4]` float64 or float32.
        warning: Whether to warn about each fault.
        throw: Whether to raise the first fault.
        name: The name of Z in messages.

    Returns:
        Whether all matrices are valid.

    Raises:
        TypeError: `throw` is True and the dtype is wrong.
        ValueError: `throw` is True and Z has another fault.

    Warns:
        ClusterWarning: For each fault, if `warning` is True.
    """
    faults = _faults(as_tensor(Z), name)
    if throw and faults:
        raise faults[0]
    if warning:
        for fault in faults:
            warnings.warn(str(fault), ClusterWarning, stacklevel=2)
    return not faults


def is_monotonic(Z: Array) -> Array:
    """Return whether the heights never decrease from one merge to the next.

    Args:
        Z: Linkage matrix `[..., P-1, 4]`.

    Returns:
        `[...]` bool.

    Raises:
        TypeError, ValueError: Z is not a linkage matrix.
    """
    linkage = check_linkage(as_tensor(Z))
    return convert_like(Z, (linkage[..., 1:, 2] >= linkage[..., :-1, 2]).all(-1))


def num_obs_linkage(Z: Array) -> int:
    """Return the number of observations P of a linkage matrix `[..., P-1, 4]`.

    Raises:
        TypeError, ValueError: Z is not a linkage matrix.
    """
    return check_linkage(as_tensor(Z)).shape[-2] + 1


def check_linkage(linkage: Tensor) -> Tensor:
    """Return the tensor unchanged if it is a linkage matrix; otherwise raise what `is_valid_linkage` raises."""
    faults = _faults(linkage, "Z")
    if faults:
        raise faults[0]
    return linkage


def _faults(linkage: Tensor, name: str | None) -> list[TypeError] | list[ValueError]:
    label = f"{name!r} " if name else ""
    if linkage.dtype not in (torch.float64, torch.float32):
        return [TypeError(f"Linkage matrix {label}must be float64 or float32; got {linkage.dtype}")]
    if linkage.ndim < 2 or linkage.shape[-1] != 4:
        return [ValueError(f"Linkage matrix {label}must have shape [..., P-1, 4]; got {list(linkage.shape)}")]
    merges = linkage.shape[-2]
    if not merges:
        return [ValueError(f"Linkage matrix {label}has no rows; a linkage matrix needs at least two observations")]

    heights, sizes = linkage[..., 2], linkage[..., 3]
    ids = linkage[..., :2].floor().to(torch.int64)
    sorted_ids = ids.flatten(-2).sort().values
    new_ids = torch.arange(merges + 1, 2 * merges + 1, device=ids.device)
    has_several = merges > 1  # SciPy does not check the height and the count of a single merge.
    faults = {
        "contains negative indices": (ids < 0).any(),
        "contains negative distances": (heights < 0).any() & has_several,
        "contains negative counts": (sizes < 0).any() & has_several,
        "contains excessive observations in a cluster": (sizes > merges + 1).any() & has_several,
        "uses a cluster before it is formed": (ids.amax(-1) >= new_ids).any(),
        "uses the same cluster more than once": (sorted_ids.diff() == 0).any(),
    }
    is_present = torch.stack(list(faults.values())).tolist()
    return [ValueError(f"Linkage {label}{fault}") for fault, present in zip(faults, is_present, strict=True) if present]
