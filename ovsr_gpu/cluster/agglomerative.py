"""scikit-learn's AgglomerativeClustering on the kernels of this package."""

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

    Everything is computed in float64. Where all merges differ in height, children_ and labels_ are scikit-learn's, the
    numbers of the labels included, and distances_ are up to rounding; with Ward and a connectivity also where they tie.

    n_clusters: number of clusters, or None with a distance_threshold.
    metric: "euclidean", "l1", "l2", "manhattan", "cosine", "precomputed", without connectivity another of SciPy's
        names, or a function: of X to the matrix of distances, with a connectivity of two rows to their distance. Ward's
        linkage takes "euclidean" or "l2".
    memory: joblib.Memory, or a folder, that caches the trees.
    connectivity: `[P, P]` array or sparse matrix of the pairs that may merge, or a function of X to one.
    compute_full_tree: False stops at n_clusters (with a connectivity), "auto" from max(100, P / 50) clusters on.
    linkage: "ward", "complete", "average" or "single".
    distance_threshold: clusters at this distance or farther are not merged.
    compute_distances: set `distances_` without a threshold, too.
    device: where to work, such as "cuda"; by default where a tensor lies, for arrays the CPU.

    Fitting sets, as NumPy arrays: labels_ `[P]`, children_ `[merges, 2]` and, with a threshold or if asked for,
    distances_ `[merges]` float64; further n_clusters_, n_leaves_ (P), n_connected_components_, n_features_in_ and, for
    data that names them, feature_names_in_.
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

        X: `[P, R]` array, data frame or tensor, P >= 2; with metric="precomputed" the distances `[P, P]`. y is ignored.
        Returns the estimator itself.

        Raises ValueError for parameters that exclude each other and for values that are missing or not finite.
        """
        self._check_parameters()
        samples, device = host_and_device(X, self.device)
        samples = validate_data(self, samples, ensure_min_samples=2)
        check_clusters(self.n_clusters, len(samples))
        connectivity = self.connectivity(samples) if callable(self.connectivity) else self.connectivity
        if connectivity is not None:
            connectivity = check_array(connectivity, accept_sparse=["csr", "coo", "lil"])

        whole_tree = self._wants_whole_tree(len(samples))
        with_distances = self.distance_threshold is not None or self.compute_distances
        build = check_memory(self.memory).cache(ward_tree if self.linkage == "ward" else linkage_tree)
        kind = {} if self.linkage == "ward" else {"linkage": self.linkage, "affinity": self.metric}
        self.children_, self.n_connected_components_, self.n_leaves_, _, *distances = build(
            samples,
            connectivity=connectivity,
            n_clusters=None if whole_tree else self.n_clusters,
            return_distance=with_distances,
            device=str(device),
            **kind,
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
                "Exactly one of n_clusters and distance_threshold has to be set, and the other needs to be None; got "
                f"n_clusters={self.n_clusters} and distance_threshold={self.distance_threshold}"
            )
        if self.distance_threshold is not None and not self.compute_full_tree:
            raise ValueError("compute_full_tree must be True if distance_threshold is set")
        if self.linkage == "ward" and self.metric not in ("euclidean", "l2"):
            raise ValueError(f"linkage='ward' needs metric 'euclidean' or 'l2'; got {self.metric!r}")

    def _wants_whole_tree(self, samples: int) -> bool:
        if self.connectivity is None or self.n_clusters is None:
            return True
        if self.compute_full_tree == "auto":
            return self.n_clusters < max(100, 0.02 * samples)
        return bool(self.compute_full_tree)


def _labels(children: NDArray[np.int64], clusters: int, leaves: int, whole_tree: bool) -> NDArray[np.int64]:
    """Labels `[leaves]` of the clusters that the first merges leave, numbered as scikit-learn does."""
    parents = torch.from_numpy(parents_of(children[: leaves - clusters], leaves))
    heads = roots(parents)[:leaves].numpy()
    if not whole_tree:
        return np.unique(heads, return_inverse=True)[1]
    number = np.empty(2 * leaves - 1, dtype=np.int64)
    number[_split_from_the_root(children, clusters, leaves)] = np.arange(clusters)
    return number[heads]


def _split_from_the_root(children: NDArray[np.int64], clusters: int, leaves: int) -> list[int]:
    """The nodes of so many clusters, made by splitting the latest merge again and again.

    They stand as they come to lie in a binary heap: scikit-learn numbers its labels by that.
    """
    heap = [-(leaves + len(children) - 1)]
    for _ in range(clusters - 1):
        first, second = children[-heap[0] - leaves].tolist()
        heapq.heappush(heap, -first)
        heapq.heapreplace(heap, -second)
    return [-node for node in heap]
