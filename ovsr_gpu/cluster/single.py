"""Which cluster of a merged pair stands first under single linkage.

scikit-learn builds single linkage out of a minimum spanning tree, and writes the clusters of a merge in the order in
which its algorithm sees the ends of the edge between them: the tail, then the head. Where distances tie, so do edges,
and the order is open.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def prim_tails(distances: Tensor) -> Tensor:
    """The tail of each merge when Prim's algorithm grows the tree from point 0.

    distances: `[P, P]`. Returns `[P-1]` int64, points, in the order of the merges: the point visited before the one
    that the edge leads to (Müllner, 2011, "Modern hierarchical, agglomerative clustering algorithms", figure 6).
    """
    points = len(distances)
    visits = torch.zeros(points, 1, dtype=torch.int64, device=distances.device)
    reach = distances.new_zeros(points - 1)
    nearest = distances.new_full((points,), torch.inf)
    visited = torch.zeros(points, dtype=torch.bool, device=distances.device)
    for step, last in enumerate(visits[:-1]):
        visited[last] = True
        nearest = torch.minimum(nearest, distances[last][0]).masked_fill(visited, torch.inf)
        reach[step], visits[step + 1] = nearest.min(0)
    return visits[:-1, 0][reach.argsort(stable=True)]


def kruskal_tails(edges: Tensor, lengths: Tensor, heights: Tensor) -> Tensor:
    """The tail of each merge when Kruskal's algorithm picks the edges: the smaller end.

    edges: `[E, 2]` int64, smaller end first. lengths: `[E]`. heights: `[P-1]`, each the length of an edge.
    Returns `[P-1]` int64, points, in the order of the merges.
    """
    lengths, order = lengths.sort(stable=True)
    return edges[order[torch.searchsorted(lengths, heights)], 0]


def tails_first(children: NDArray[np.int64], sizes: NDArray[np.int64], tails: NDArray[np.int64]) -> NDArray[np.int64]:
    """The children `[P-1, 2]` of a whole tree, with that one first in each pair which holds the tail `[P-1]`."""
    leaves = len(children) + 1
    size = np.append(np.ones(leaves, dtype=np.int64), sizes)
    place = np.zeros_like(size)  # of each cluster's first leaf in the dendrogram
    for merge in reversed(range(leaves - 1)):
        first, second = children[merge]
        place[first] = place[leaves + merge]
        place[second] = place[first] + size[first]
    in_second = place[tails] >= place[children[:, 1]]
    return np.where(in_second[:, None], children[:, ::-1], children)
