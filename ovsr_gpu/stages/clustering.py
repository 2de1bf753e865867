"""Hierarchical clustering of the latents, and the rules for the number of clusters."""

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
"""Root mean square per grid cell, for features of about one, below which the first singular value is rounding error."""


@stage("linkage")
def merge_tree(latents: Latents, config: ClusteringConfig) -> MergeTree:
    """Return the dendrogram of each image's grid cells, over all pairs of cells or over the pixel grid."""
    if config.connectivity == "full":
        return full_graph_linkage(latents.components, config.linkage)
    edges = grid_edges(*latents.grid, config.connectivity, latents.components.device)
    return pixel_graph_linkage(latents.components, edges, config.linkage)


@stage("cluster count")
def cluster_count(latents: Latents, dendrogram: MergeTree, config: ClusteringConfig) -> Tensor:
    """Return the number of clusters of each image by `config.count_rule`.

    An image without variance (a zero spectrum) has one cluster under every rule.

    Args:
        latents: Latents and spectrum of the images.
        dendrogram: See `merge_tree`; only the rule "merge_cost" reads it.
        config: The rule, its parameter and the maximum.

    Returns:
        `[B]` int64 in [1, min(P, `config.max_clusters`)].
    """
    if config.count_rule == "merge_cost":
        count = merge_cost(latents, dendrogram, config.effective_count_parameter)
    else:
        count = SPECTRUM_RULES[config.count_rule](latents, config.effective_count_parameter)
    num_cells = latents.components.shape[1]
    count = count.round().to(torch.int64).clamp(1, min(config.max_clusters, num_cells))
    return torch.where(latents.singular_values[:, 0] > ZERO_SPECTRUM * num_cells**0.5, count, 1)


@stage("cut")
def cluster_labels(latents: Latents, dendrogram: MergeTree, count: Tensor) -> Tensor:
    """Return the cluster of each grid cell when the dendrograms are cut into `count` clusters.

    Args:
        latents: Latents of the images.
        dendrogram: See `merge_tree`.
        count: `[B]` int64, the number of clusters of each image.

    Returns:
        `[B, h, w]` int64, 0..k-1, numbered by first cell.
    """
    return cut(dendrogram.children, count).view(-1, *latents.grid)


def merge_cost(latents: Latents, dendrogram: MergeTree, fraction: float) -> Tensor:
    """Return 1 + the number of merges that each cost more than `fraction` of the total variance.

    The total variance is the sum of sigma^2. The cost of a Ward merge is the increase of the within-cluster sum of
    squares, height^2 / 2; the same formula is used for the other linkages.

    Args:
        latents: Latents and spectrum of the images.
        dendrogram: See `merge_tree`.
        fraction: Fraction of the total variance.

    Returns:
        `[B]` int64.
    """
    total = latents.singular_values.square().sum(1, keepdim=True)
    return 1 + (dendrogram.heights.square() / 2 > fraction * total).sum(1)


def effective_rank(latents: Latents, scale: float) -> Tensor:
    """Return `scale` * exp(entropy of sigma / sum sigma) (Roy and Vetterli, 2007, "The effective rank", eq. 2-4)."""
    fraction = latents.singular_values / latents.singular_values.sum(1, keepdim=True).clamp_min(1e-30)
    return scale * torch.special.entr(fraction).sum(1).exp()


def participation_ratio(latents: Latents, scale: float) -> Tensor:
    """Return `scale` * (sum sigma^2)^2 / sum sigma^4."""
    energy = latents.singular_values.square()
    energy = energy / energy.sum(1, keepdim=True).clamp_min(1e-30)
    return scale / energy.square().sum(1).clamp_min(1e-30)


def energy(latents: Latents, fraction: float) -> Tensor:
    """Return 1 + the minimum number of components that contain `fraction` of the sum of sigma^2."""
    cumulative = latents.singular_values.square().cumsum(1)
    return 2 + (cumulative < fraction * cumulative[:, -1:]).sum(1)


def ratio_gap(latents: Latents, scale: float) -> Tensor:
    """Return 1 + `scale` * the index i of the largest ratio sigma_i / sigma_(i+1) in the first half of the spectrum."""
    first_half = latents.singular_values[:, : latents.singular_values.shape[1] // 2 + 1]
    if first_half.shape[1] < 2:
        return torch.ones_like(first_half[:, 0])
    ratio = first_half[:, :-1] / first_half[:, 1:].clamp_min(1e-30)
    return 1 + scale * (1 + ratio.argmax(1))


def hard_threshold(latents: Latents, scale: float) -> Tensor:
    """Return 1 + `scale` * the number of singular values above Gavish and Donoho's threshold for unknown noise.

    The threshold is omega(beta) * the median, omega(beta) ~ 0.56 beta^3 - 0.95 beta^2 + 1.82 beta + 1.43 (2014, "The
    optimal hard threshold for singular values is 4/sqrt(3)", eq. 5); beta is the short side of the pixel-feature matrix
    over the long side.
    """
    singular_values, beta = latents.singular_values, latents.aspect
    omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    count = singular_values.shape[1]
    median = singular_values[:, (count - 1) // 2 : count // 2 + 1].mean(1, keepdim=True)
    return 1 + scale * (singular_values > omega * median).sum(1)


def elbow(latents: Latents, scale: float) -> Tensor:
    """Return 1 + `scale` * the index of the value farthest below the line from the first to the last singular value."""
    singular_values = latents.singular_values
    position = torch.linspace(0, 1, singular_values.shape[1], device=singular_values.device)
    line = torch.lerp(singular_values[:, :1], singular_values[:, -1:], position)
    return 1 + scale * (line - singular_values).argmax(1)


def fixed(latents: Latents, count: float) -> Tensor:
    """Return `count` for every image."""
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
"""The rules that read the spectrum alone; each returns `[B]`, before rounding."""
