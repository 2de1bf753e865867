"""Tree builders with the arguments and results of those of scikit-learn."""

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
from ovsr_gpu.kernels.trees import MergeTree, parents
from ovsr_gpu.runtime.device import choose_device


def ward_tree(
    X: ArrayLike | Tensor,
    *,
    connectivity: Any = None,
    n_clusters: int | None = None,
    return_distance: bool = False,
    device: str | torch.device | None = None,
) -> tuple[Any, ...]:
    """Build Ward's tree of the rows of X, as `sklearn.cluster.ward_tree` does, on any device.

    Args:
        X: `[P, R]` array or tensor; computed in float64.
        connectivity: `[P, P]` array or sparse matrix. Only clusters that are connected by an edge
            merge. Default: all pairs.
        n_clusters: Number of clusters at which to stop; only with a connectivity.
        return_distance: Whether to return the distances.
        device: Where to compute; must support float64. Default: the device of a tensor; the CPU for arrays.

    Returns:
        A tuple of the children `[P-1, 2]` int64 (`[P-n_clusters, 2]` with `n_clusters` and a connectivity), the number
        of connected components, P, the parent `[nodes]` of each node (None without a connectivity) and, with
        `return_distance`, the distances `[P-1]` float64: sqrt(2 * increase of the within-cluster sum of squares).

    Raises:
        ValueError: A value is not finite, the connectivity has another shape, or `n_clusters` exceeds P.
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
    """Build the tree of complete, average or single linkage, as `sklearn.cluster.linkage_tree` does, on any device.

    As in scikit-learn, `n_clusters` shortens the parents but not the children of single linkage.

    Args:
        X: As in `ward_tree`; with affinity="precomputed" the distances `[P, P]`.
        connectivity: As in `ward_tree`.
        n_clusters: As in `ward_tree`.
        linkage: "complete", "average" or "single".
        affinity: Name of a metric, "precomputed", or a function: without a connectivity, of X to the distance matrix
            `[P, P]`; with a connectivity, of two rows to their distance.
        return_distance: As in `ward_tree`.
        device: As in `ward_tree`.

    Returns:
        As in `ward_tree`; the distances are those of the linkage.

    Raises:
        ValueError: As in `ward_tree`; also if the linkage is unknown or the metric gives distances that are not finite.
    """
    if linkage not in ("complete", "average", "single"):
        raise ValueError(f"linkage must be 'complete', 'average' or 'single'; got {linkage!r}")
    data, device = host_and_device(X, device)
    data = _check_points(data, connectivity, n_clusters)
    points = torch.tensor(data, device=device)
    if connectivity is None:
        distances = all_distances(points, affinity)
        tree = distance_linkage(distances[None], linkage)
        # scikit-learn uses its own single linkage for the metrics of BallTree, and SciPy's for all others.
        uses_prim = linkage == "single" and affinity in BallTree.valid_metrics
        return _outputs(tree, 1, None, return_distance, prim_tails(distances) if uses_prim else None)
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
    """Return the data, copied to the host if it is a tensor (validation runs there), and the device for computing."""
    if isinstance(X, Tensor):
        return X.numpy(force=True), choose_device(X.device if device is None else device)
    return X, choose_device("cpu" if device is None else device)


def parents_of(children: NDArray[np.int64], leaves: int) -> NDArray[np.int64]:
    """Return the parent `[leaves + merges]` of each node; a root is its own parent."""
    return parents(torch.from_numpy(children)[None], leaves)[0].numpy()


def check_clusters(n_clusters: int | None, samples: int) -> None:
    """Check that the number of clusters is between 1 and the number of samples.

    Raises:
        ValueError: It is not.
    """
    if n_clusters is not None and not 1 <= n_clusters <= samples:
        raise ValueError(f"n_clusters must be from 1 to the number of samples, {samples}; got {n_clusters}")


def _check_points(X: ArrayLike, connectivity: Any, n_clusters: int | None) -> NDArray[np.float64]:
    """Return X as finite float64 `[P, R]`; a vector becomes P points of one feature."""
    data = check_array(X, dtype=np.float64, ensure_2d=False)
    check_clusters(n_clusters, len(data))
    if connectivity is None and n_clusters is not None:
        warnings.warn("n_clusters has no effect without a connectivity; the whole tree is built.", stacklevel=3)
    return data.reshape(len(data), -1)


def _outputs(
    tree: MergeTree, components: int, stop_at: int | None, return_distance: bool, tails: Tensor | None = None
) -> tuple[Any, ...]:
    """Return the outputs of scikit-learn's builders.

    Args:
        tree: One tree, as a batch of size 1.
        components: Number of connected components.
        stop_at: Number of clusters that the parents leave; None for no parents.
        return_distance: Whether to append the distances.
        tails: `[P-1]` int64 points; the child that contains the tail comes first in each merge.
    """
    leaves = tree.heights.shape[1] + 1
    children, heights, sizes = (part[0, : int((tree.sizes > 0).sum())].numpy(force=True) for part in tree)
    if tails is not None:
        children = tails_first(children, sizes, tails.numpy(force=True))
    parent = None if stop_at is None else parents_of(children[: leaves - stop_at], leaves)
    outputs = children, components, leaves, parent
    return (*outputs, heights) if return_distance else outputs
