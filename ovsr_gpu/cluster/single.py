"""The order of the two children of each merge under single linkage.

scikit-learn builds single linkage from a minimum spanning tree. The children of a merge are in the order in which its
algorithm visits the ends of the edge between them: the tail, then the head. If distances tie, the edges are not unique
and neither is the order.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def prim_tails(distances: Tensor) -> Tensor:
    """Find the tail of each merge if Prim's algorithm grows the tree from point 0.

    The tail is the point visited before the point that the edge leads to (Müllner, 2011, "Modern hierarchical,
    agglomerative clustering algorithms", figure 6).

    Args:
        distances: `[P, P]`.

    Returns:
        `[P-1]` int64, a point for each merge.
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
    """Find the tail of each merge if Kruskal's algorithm selects the edges: the smaller end.

    Args:
        edges: `[E, 2]` int64, smaller end first.
        lengths: `[E]`.
        heights: `[P-1]`, each the length of an edge.

    Returns:
        `[P-1]` int64, a point for each merge.
    """
    lengths, order = lengths.sort(stable=True)
    return edges[order[torch.searchsorted(lengths, heights)], 0]


def tails_first(children: NDArray[np.int64], sizes: NDArray[np.int64], tails: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order the children of each merge such that the child that contains the tail comes first.

    Args:
        children: `[P-1, 2]` of a complete tree.
        sizes: `[P-1]`, the number of points of each merge.
        tails: `[P-1]`, a point for each merge.

    Returns:
        `[P-1, 2]` int64.
    """
    leaves = len(children) + 1
    size = np.append(np.ones(leaves, dtype=np.int64), sizes)
    position = np.zeros_like(size)  # of the first leaf of each cluster in the dendrogram
    for merge in reversed(range(leaves - 1)):
        first, second = children[merge]
        position[first] = position[leaves + merge]
        position[second] = position[first] + size[first]
    in_second = position[tails] >= position[children[:, 1]]
    return np.where(in_second[:, None], children[:, ::-1], children)
