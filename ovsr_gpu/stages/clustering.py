"""Hierarchical clustering of the latents, and how many clusters to keep."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ovsr_gpu.config import ClusteringConfig
from ovsr_gpu.kernels.linkage import full_graph_linkage, grid_edges, pixel_graph_linkage
from ovsr_gpu.kernels.trees import MergeTree, cut
from ovsr_gpu.results import Latents
from ovsr_gpu.runtime.timing import stage

ZERO_SPECTRUM = 1e-4
"""Root mean square a pixel, beside features of about one, below which the first singular value is rounding error."""


@stage("linkage")
def merge_tree(latents: Latents, config: ClusteringConfig) -> MergeTree:
    """Dendrogram of each image's grid cells, over all pairs of cells or over the grid's own neighborhood."""
    if config.connectivity == "full":
        return full_graph_linkage(latents.components, config.linkage)
    edges = grid_edges(*latents.grid, config.connectivity, latents.components.device)
    return pixel_graph_linkage(latents.components, edges, config.linkage)


@stage("cluster count")
def cluster_count(latents: Latents, dendrogram: MergeTree, config: ClusteringConfig) -> Tensor:
    """Number of clusters of each image by `config.count_rule`: `[B]` int64 in [1, min(P, `config.max_clusters`)].

    An image without any variance (a zero spectrum) is one cluster under every rule.
    """
    if config.count_rule == "merge_cost":
        count = costly_merges(latents, dendrogram, config.count_value)
    else:
        count = SPECTRUM_RULES[config.count_rule](latents, config.count_value)
    pixels = latents.components.shape[1]
    count = count.round().to(torch.int64).clamp(1, min(config.max_clusters, pixels))
    return torch.where(latents.singular_values[:, 0] > ZERO_SPECTRUM * pixels**0.5, count, 1)


@stage("cut")
def cluster_labels(latents: Latents, dendrogram: MergeTree, count: Tensor) -> Tensor:
    """Labels `[B, h, w]` int64, 0..k-1 in the order of each cluster's first pixel."""
    return cut(dendrogram.children, count).view(-1, *latents.grid)


def costly_merges(latents: Latents, dendrogram: MergeTree, fraction: float) -> Tensor:
    """1 + the number of merges that each cost more than `share` of the total variance, which is the sum of sigma^2.

    The cost of a Ward merge is the increase of the within-cluster sum of squares, height^2 / 2; other linkages are read
    the same way.
    """
    total = latents.singular_values.square().sum(1, keepdim=True)
    return 1 + (dendrogram.heights.square() / 2 > fraction * total).sum(1)


def effective_rank(latents: Latents, scale: float) -> Tensor:
    """`scale` x exp(entropy of sigma / sum sigma) (Roy and Vetterli, 2007, "The effective rank", eq. 2-4)."""
    fraction = latents.singular_values / latents.singular_values.sum(1, keepdim=True).clamp_min(1e-30)
    return scale * torch.special.entr(fraction).sum(1).exp()


def participation_ratio(latents: Latents, scale: float) -> Tensor:
    """`scale` x (sum sigma^2)^2 / sum sigma^4."""
    energy = latents.singular_values.square()
    energy = energy / energy.sum(1, keepdim=True).clamp_min(1e-30)
    return scale / energy.square().sum(1).clamp_min(1e-30)


def energy(latents: Latents, fraction: float) -> Tensor:
    """1 + the least number of components that hold `share` of the sum of sigma^2."""
    cumulative = latents.singular_values.square().cumsum(1)
    return 2 + (cumulative < fraction * cumulative[:, -1:]).sum(1)


def ratio_gap(latents: Latents, scale: float) -> Tensor:
    """1 + `scale` x the place i of the largest ratio sigma_i / sigma_(i+1) in the upper half of the spectrum."""
    upper = latents.singular_values[:, : latents.singular_values.shape[1] // 2 + 1]
    if upper.shape[1] < 2:
        return torch.ones_like(upper[:, 0])
    ratio = upper[:, :-1] / upper[:, 1:].clamp_min(1e-30)
    return 1 + scale * (1 + ratio.argmax(1))


def hard_threshold(latents: Latents, scale: float) -> Tensor:
    """1 + `scale` x the number of singular values above Gavish and Donoho's threshold for unknown noise.

    The threshold is omega(beta) x the median, omega(beta) ~ 0.56 beta^3 - 0.95 beta^2 + 1.82 beta + 1.43 (2014, "The
    optimal hard threshold for singular values is 4/sqrt(3)", eq. 5), beta = the short side of the pixel-feature
    matrix over the long.
    """
    singular_values, beta = latents.singular_values, latents.aspect
    omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    count = singular_values.shape[1]
    median = singular_values[:, (count - 1) // 2 : count // 2 + 1].mean(1, keepdim=True)
    return 1 + scale * (singular_values > omega * median).sum(1)


def elbow(latents: Latents, scale: float) -> Tensor:
    """1 + `scale` x the place of the value farthest below the line from the first singular value to the last."""
    singular_values = latents.singular_values
    along = torch.linspace(0, 1, singular_values.shape[1], device=singular_values.device)
    line = torch.lerp(singular_values[:, :1], singular_values[:, -1:], along)
    return 1 + scale * (line - singular_values).argmax(1)


def fixed(latents: Latents, count: float) -> Tensor:
    """`count` for every image."""
    return torch.full_like(latents.singular_values[:, 0], count)


SPECTRUM_RULES: dict[str, Callable[[Latents, float], Tensor]] = {
    "effective_rank": effective_rank,
    "energy": energy,
    "ratio_gap": ratio_gap,
    "participation_ratio": participation_ratio,
    "hard_threshold": hard_threshold,
    "elbow": elbow,
    "fixed": fixed,
}
