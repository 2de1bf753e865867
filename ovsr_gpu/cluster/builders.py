"""Merge trees of one set of points, with the arguments and results of scikit-learn's tree builders."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import BallTree
from sklearn.utils import check_array
from torch import Tensor

from ovsr_gpu.cluster.graph import Metric, all_distances, connected_edges, edge_lengths
from ovsr_gpu.cluster.single import kruskal_tails, prim_tails, tails_first
from ovsr_gpu.kernels.linkage import distance_linkage, edge_linkage, full_graph_linkage, pixel_graph_linkage
from ovsr_gpu.kernels.trees import MergeTree
from ovsr_gpu.runtime.device import choose_device


def ward_tree(
    X: ArrayLike | Tensor,
    *,
    connectivity: Any = None,
    n_clusters: int | None = None,
    return_distance: bool = False,
    device: str | torch.device | None = None,
) -> tuple[Any, ...]:
    """Ward's tree of the rows of X: `sklearn.cluster.ward_tree` on any device.

    X: `[P, R]` array or tensor, computed in float64. connectivity: `[P, P]` array or sparse matrix; only clusters
        joined by an edge merge. n_clusters: stop there (with a connectivity). device: where to work, one that knows
        float64; by default where a tensor lies, for arrays the CPU.
    Returns children `[P-1, 2]` int64, the number of connected components, P, the parent `[nodes]` of each node (None
    without connectivity), and, if asked for, the distances `[P-1]` float64, sqrt(2 * increase of the within-cluster sum
    of squares). With n_clusters and a connectivity, `[P-n_clusters]` merges.

    Raises ValueError for values that are not finite, a connectivity of another shape, more clusters than samples.
    """
    data, device = host_and_device(X, device)
    data = _check_points(data, connectivity, n_clusters)
    points = torch.tensor(data, device=device)
    if connectivity is None:
        return _outputs(full_graph_linkage(points[None]), 1, None, return_distance)
    edges, components = connected_edges(data, connectivity, "euclidean")
    tree = pixel_graph_linkage(points[None], edges.to(device), stop_at=n_clusters or 1)
    return _outputs(tree, components, n_clusters or 1, return_distance)


def linkage_tree(
    X: ArrayLike | Tensor,
    connectivity: Any = None,
    n_clusters: int | None = None,
    linkage: str = "complete",
    affinity: Metric = "euclidean",
    return_distance: bool = False,
    *,
    device: str | torch.device | None = None,
) -> tuple[Any, ...]:
    """The tree of complete, average or single linkage: `sklearn.cluster.linkage_tree` on any device.

    linkage: "complete", "average" or "single". affinity: a metric by name; "precomputed" where X is the distances
        `[P, P]`; or a function, of X to such a matrix without, of two rows to their distance with a connectivity.
    The rest, and the results, are as in `ward_tree`; distances are those of the linkage. As in scikit-learn, n_clusters
    shortens the parents but not the children of single linkage.

    Raises ValueError also for another linkage, and where the metric gives distances that are not finite.
    """
    if linkage not in ("complete", "average", "single"):
        raise ValueError(f"linkage must be 'complete', 'average' or 'single'; got {linkage!r}")
    data, device = host_and_device(X, device)
    data = _check_points(data, connectivity, n_clusters)
    points = torch.tensor(data, device=device)
    if connectivity is None:
        distances = all_distances(points, affinity)
        tree = distance_linkage(distances[None], linkage)
        # scikit-learn grows single linkage itself for the metrics of its neighbor trees; others it leaves to SciPy.
        own = linkage == "single" and affinity in BallTree.valid_metrics
        return _outputs(tree, 1, None, return_distance, prim_tails(distances) if own else None)
    edges, components = connected_edges(data, connectivity, affinity)
    edges = edges.to(device)
    lengths = edge_lengths(points, edges, affinity)
    if linkage == "single":
        tree = edge_linkage(lengths[None], edges, len(points), "single")
        tails = kruskal_tails(edges, lengths, tree.heights[0])
        return _outputs(tree, components, n_clusters or 1, return_distance, tails)
    tree = edge_linkage(lengths[None], edges, len(points), linkage, stop_at=n_clusters or 1)
    return _outputs(tree, components, n_clusters or 1, return_distance)


def host_and_device(X: Any, device: str | torch.device | None) -> tuple[Any, torch.device]:
    """The data with tensors brought to the host, where it is checked, and the device to work on."""
    if isinstance(X, Tensor):
        return X.numpy(force=True), choose_device(X.device if device is None else device)
    return X, choose_device("cpu" if device is None else device)


def parents_of(children: NDArray[np.int64], leaves: int) -> NDArray[np.int64]:
    """The parent of each of the nodes, `[leaves + merges]`; a root is its own."""
    nodes = np.arange(leaves + len(children))
    nodes[children] = nodes[leaves:, None]
    return nodes


def check_clusters(n_clusters: int | None, samples: int) -> None:
    if n_clusters is not None and not 1 <= n_clusters <= samples:
        raise ValueError(f"n_clusters must be from 1 to the number of samples, {samples}; got {n_clusters}")


def _check_points(X: ArrayLike, connectivity: Any, n_clusters: int | None) -> NDArray[np.float64]:
    """X as finite float64 `[P, R]`, a vector as P points of one feature."""
    data = check_array(X, dtype=np.float64, ensure_2d=False)
    check_clusters(n_clusters, len(data))
    if connectivity is None and n_clusters is not None:
        warnings.warn(
            "n_clusters stops the tree only where a connectivity is given; the whole tree is built.", stacklevel=3
        )
    return data.reshape(len(data), -1)


def _outputs(
    tree: MergeTree, components: int, stop_at: int | None, return_distance: bool, tails: Tensor | None = None
) -> tuple[Any, ...]:
    """What scikit-learn's builders return; stop_at: the clusters that the parents leave, None for no parents."""
    leaves = tree.heights.shape[1] + 1
    children, heights, sizes = (part[0, : int((tree.sizes > 0).sum())].numpy(force=True) for part in tree)
    if tails is not None:
        children = tails_first(children, sizes, tails.numpy(force=True))
    parents = None if stop_at is None else parents_of(children[: leaves - stop_at], leaves)
    outputs = children, components, leaves, parents
    return (*outputs, heights) if return_distance else outputs
