"""What makes an array a linkage matrix."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, like


class ClusterWarning(UserWarning):
    """Input that is probably not what was meant."""


def is_valid_linkage(Z: Array, warning: bool = False, throw: bool = False, name: str | None = None) -> bool:
    """Whether Z is a linkage matrix, `[..., P-1, 4]` float64 or float32; of a batch, whether each one is.

    warning: warn of each fault. throw: raise the first one, TypeError for the dtype and ValueError for anything else.
    name: what messages call Z.
    """
    faults = _faults(as_tensor(Z), name)
    if throw and faults:
        raise faults[0]
    if warning:
        for fault in faults:
            warnings.warn(str(fault), ClusterWarning, stacklevel=2)
    return not faults


def is_monotonic(Z: Array) -> Array:
    """Whether no merge lies below the one before it: bool `[...]` for a linkage matrix `[..., P-1, 4]`."""
    linkage = check_linkage(as_tensor(Z))
    return like(Z, (linkage[..., 1:, 2] >= linkage[..., :-1, 2]).all(-1))


def num_obs_linkage(Z: Array) -> int:
    """The number of observations P that a linkage matrix `[..., P-1, 4]` stands for."""
    return check_linkage(as_tensor(Z)).shape[-2] + 1


def check_linkage(linkage: Tensor) -> Tensor:
    """The tensor itself if it is a linkage matrix; otherwise raises what `is_valid_linkage` would."""
    faults = _faults(linkage, "Z")
    if faults:
        raise faults[0]
    return linkage


def _faults(linkage: Tensor, name: str | None) -> list[TypeError] | list[ValueError]:
    called = f"{name!r} " if name else ""
    if linkage.dtype not in (torch.float64, torch.float32):
        return [TypeError(f"Linkage matrix {called}must be float64 or float32; got {linkage.dtype}")]
    if linkage.ndim < 2 or linkage.shape[-1] != 4:
        return [ValueError(f"Linkage matrix {called}must have shape [..., P-1, 4]; got {list(linkage.shape)}")]
    merges = linkage.shape[-2]
    if not merges:
        return [ValueError(f"Linkage matrix {called}has no rows; a linkage is of two observations or more")]

    heights, sizes = linkage[..., 2], linkage[..., 3]
    ids = linkage[..., :2].floor().to(torch.int64)
    in_order = ids.flatten(-2).sort().values
    being_made = torch.arange(merges + 1, 2 * merges + 1, device=ids.device)
    several = merges > 1  # SciPy takes the height and the count of a single merge as they are.
    faults = {
        "contains negative indices": (ids < 0).any(),
        "contains negative distances": (heights < 0).any() & several,
        "contains negative counts": (sizes < 0).any() & several,
        "contains excessive observations in a cluster": (sizes > merges + 1).any() & several,
        "uses a cluster before it is formed": (ids.amax(-1) >= being_made).any(),
        "uses the same cluster more than once": (in_order.diff() == 0).any(),
    }
    found = torch.stack(list(faults.values())).tolist()
    return [ValueError(f"Linkage {called}{fault}") for fault, there in zip(faults, found, strict=True) if there]
