"""The functions of `scipy.cluster.hierarchy` on this package's kernels, with the same names, arguments and results.

Inputs are NumPy arrays, torch tensors, CuPy arrays or any other arrays that support DLPack. Results have the same array
type and are on the same device. Lists give NumPy arrays. Leading batch dimensions are processed together: `linkage`
returns `[..., P-1, 4]` for observations `[..., P, R]`, and the other functions accept that shape.
"""

from ovsr_gpu.hierarchy.flat import cut_tree, fcluster, fclusterdata, leaders
from ovsr_gpu.hierarchy.linkages import linkage
from ovsr_gpu.hierarchy.statistics import cophenet, inconsistent, maxdists
from ovsr_gpu.hierarchy.validation import (
    ClusterWarning,
    is_monotonic,
    is_valid_linkage,
    num_obs_linkage,
)

__all__ = [
    "ClusterWarning",
    "cophenet",
    "cut_tree",
    "fcluster",
    "fclusterdata",
    "inconsistent",
    "is_monotonic",
    "is_valid_linkage",
    "leaders",
    "linkage",
    "maxdists",
    "num_obs_linkage",
]
