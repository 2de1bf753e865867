"""The `AgglomerativeClustering` estimator."""

from __future__ import annotations

import heapq
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.metrics.pairwise import _VALID_METRICS
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_memory, validate_data
from torch import Tensor

from ovsr_gpu.cluster.builders import check_clusters, host_and_device, linkage_tree, parents_of, ward_tree
from ovsr_gpu.cluster.graph import Metric
from ovsr_gpu.kernels.trees import roots


class AgglomerativeClustering(ClusterMixin, BaseEstimator):
    """Agglomerative clustering with the parameters and results of `sklearn.cluster.AgglomerativeClustering`.

    All computations are in float64. If all merges have different heights, `children_` and `labels_` are identical to
    scikit-learn's, including the numbers of the labels, and `distances_` agree up to rounding. With Ward linkage and a
    connectivity, this also holds for merges of equal height.

    Args:
        n_clusters: Number of clusters; None if `distance_threshold` is set.
        metric: "euclidean", "l1", "l2", "manhattan", "cosine" or "precomputed"; without a connectivity also any other
            metric name of SciPy. Or a function: without a connectivity, of X to the distance matrix; with a
            connectivity, of two rows to their distance. Ward linkage supports only "euclidean" and "l2".
        memory: A joblib.Memory or a folder in which the trees are cached.
        connectivity: `[P, P]` array or sparse matrix of the pairs that may merge, or a function that computes it from
            X.
        compute_full_tree: Whether to build the whole tree. With False and a connectivity, the tree stops at
            `n_clusters`. "auto" stops if `n_clusters` is at least max(100, P / 50).
        linkage: "ward", "complete", "average" or "single".
        distance_threshold: Clusters whose distance is at least this threshold are not merged.
        compute_distances: Whether to set `distances_` even without a threshold.
        device: Where to compute, such as "cuda". Default: the device of a tensor; the CPU for arrays.

    Attributes:
        labels_: `[P]` NumPy array, the cluster of each sample.
        children_: `[merges, 2]` NumPy array, the nodes that each merge joins.
        distances_: `[merges]` float64 NumPy array; set if `distance_threshold` or `compute_distances` is set.
        n_clusters_: Number of clusters.
        n_leaves_: P.
        n_connected_components_: Number of connected components of the connectivity.
        n_features_in_: Number of features.
        feature_names_in_: Names of the features, if X has names.

    Example:
        >>> from ovsr_gpu.cluster import AgglomerativeClustering
        >>> AgglomerativeClustering(n_clusters=2).fit_predict([[0.0], [1.0], [9.0]])
        array([0, 0, 1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "metric": [StrOptions({*_VALID_METRICS, "precomputed"}), callable],
        "memory": [str, HasMethods("cache"), None],
        "connectivity": ["array-like", "sparse matrix", callable, None],
        "compute_full_tree": [StrOptions({"auto"}), "boolean"],
        "linkage": [StrOptions({"ward", "complete", "average", "single"})],
        "distance_threshold": [Interval(Real, 0, None, closed="left"), None],
        "compute_distances": ["boolean"],
        "device": [str, torch.device, None],
    }

    def __init__(
        self,
        n_clusters: int | None = 2,
        *,
        metric: Metric = "euclidean",
        memory: Any = None,
        connectivity: Any = None,
        compute_full_tree: bool | str = "auto",
        linkage: str = "ward",
        distance_threshold: float | None = None,
        compute_distances: bool = False,
        device: str | torch.device | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.metric = metric
        self.memory = memory
        self.connectivity = connectivity
        self.compute_full_tree = compute_full_tree
        self.linkage = linkage
        self.distance_threshold = distance_threshold
        self.compute_distances = compute_distances
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike | Tensor, y: None = None) -> AgglomerativeClustering:
        """Cluster the rows of X.

        Args:
            X: `[P, R]` array, data frame or tensor, P >= 2; with metric="precomputed" the distances `[P, P]`.
            y: Ignored.

        Returns:
            The fitted estimator itself.

        Raises:
            ValueError: Parameters exclude each other or a value is missing or not finite.
        """
        self._check_parameters()
        samples, device = host_and_device(X, self.device)
        samples = validate_data(self, samples, ensure_min_samples=2)
        check_clusters(self.n_clusters, len(samples))
        connectivity = self.connectivity(samples) if callable(self.connectivity) else self.connectivity
        if connectivity is not None:
            connectivity = check_array(connectivity, accept_sparse=["csr", "coo", "lil"])

        whole_tree = self._needs_whole_tree(len(samples))
        with_distances = self.distance_threshold is not None or self.compute_distances
        build = check_memory(self.memory).cache(ward_tree if self.linkage == "ward" else linkage_tree)
        options = {} if self.linkage == "ward" else {"linkage": self.linkage, "affinity": self.metric}
        self.children_, self.n_connected_components_, self.n_leaves_, _, *distances = build(
            samples,
            connectivity=connectivity,
            n_clusters=None if whole_tree else self.n_clusters,
            return_distance=with_distances,
            device=str(device),
            **options,
        )
        if with_distances:
            (self.distances_,) = distances
        if self.n_clusters is not None:
            self.n_clusters_ = self.n_clusters
        else:
            self.n_clusters_ = 1 + int(np.count_nonzero(self.distances_ >= self.distance_threshold))
        self.labels_ = _labels(self.children_, self.n_clusters_, self.n_leaves_, whole_tree)
        return self

    def _check_parameters(self) -> None:
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise ValueError(
                "Exactly one of n_clusters and distance_threshold must be set, and the other must be None; got "
                f"n_clusters={self.n_clusters} and distance_threshold={self.distance_threshold}"
            )
        if self.distance_threshold is not None and not self.compute_full_tree:
            raise ValueError("compute_full_tree must be True if distance_threshold is set")
        if self.linkage == "ward" and self.metric not in ("euclidean", "l2"):
            raise ValueError(f"linkage='ward' requires the metric 'euclidean' or 'l2'; got {self.metric!r}")

    def _needs_whole_tree(self, samples: int) -> bool:
        if self.connectivity is None or self.n_clusters is None:
            return True
        if self.compute_full_tree == "auto":
            return self.n_clusters < max(100, 0.02 * samples)
        return bool(self.compute_full_tree)


def _labels(children: NDArray[np.int64], clusters: int, leaves: int, whole_tree: bool) -> NDArray[np.int64]:
    """Return the labels `[leaves]` of the `clusters` clusters, numbered as in scikit-learn."""
    parents = torch.from_numpy(parents_of(children[: leaves - clusters], leaves))
    cluster_nodes = roots(parents)[:leaves].numpy()
    if not whole_tree:
        return np.unique(cluster_nodes, return_inverse=True)[1]
    number = np.empty(2 * leaves - 1, dtype=np.int64)
    number[_split_from_the_root(children, clusters, leaves)] = np.arange(clusters)
    return number[cluster_nodes]


def _split_from_the_root(children: NDArray[np.int64], clusters: int, leaves: int) -> list[int]:
    """Return the nodes of the clusters, found by splitting the latest merge until there are `clusters` nodes.

    The nodes are in the order of a binary heap, because scikit-learn numbers the labels in that order.
    """
    heap = [-(leaves + len(children) - 1)]
    for _ in range(clusters - 1):
        first, second = children[-heap[0] - leaves].tolist()
        heapq.heappush(heap, -first)
        heapq.heapreplace(heap, -second)
    return [-node for node in heap]
