"""scipy.cluster.hierarchy on the kernels of this package: its names, arguments and results.

Arrays come as NumPy arrays, torch tensors, CuPy arrays or whatever else speaks DLPack, and results are of the same kind
on the same device; lists give NumPy arrays. Leading batch dimensions are worked on together: `linkage` makes
`[..., P-1, 4]` out of observations `[..., P, R]`, and the other functions take that.
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
