import math

import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction.image import grid_to_graph

from oracles import partition
from ovsr_gpu import ClusteringConfig
from ovsr_gpu.config import COUNT_PARAMETERS
from ovsr_gpu.kernels.trees import MergeTree
from ovsr_gpu.results import Latents
from ovsr_gpu.stages.clustering import SPECTRUM_RULES, cluster_count, cluster_labels, merge_tree

SPECTRUM = [8.0, 5.0, 4.0, 1.0, 0.5, 0.4, 0.3, 0.2]


def with_spectrum(*spectra: list[float], aspect: float = 0.25) -> Latents:
    return Latents(torch.zeros(len(spectra), 32, 2), torch.tensor(spectra), aspect, (4, 8))


def by_hand(rule: str, parameter: float) -> float:
    """Each rule in plain Python, as its docstring and source define it."""
    total, energy = sum(SPECTRUM), [sigma**2 for sigma in SPECTRUM]
    if rule == "effective_rank":
        return parameter * math.exp(-sum(sigma / total * math.log(sigma / total) for sigma in SPECTRUM))
    if rule == "participation_ratio":
        return parameter * sum(energy) ** 2 / sum(e**2 for e in energy)
    if rule == "energy":
        return 1 + next(n for n in range(1, 9) if sum(energy[:n]) >= parameter * sum(energy))
    if rule == "ratio_gap":
        ratios = [SPECTRUM[i] / SPECTRUM[i + 1] for i in range(4)]
        return 1 + parameter * (1 + ratios.index(max(ratios)))
    if rule == "hard_threshold":
        omega = 0.56 * 0.25**3 - 0.95 * 0.25**2 + 1.82 * 0.25 + 1.43
        return 1 + parameter * sum(sigma > omega * 0.75 for sigma in SPECTRUM)
    if rule == "elbow":
        gaps = [8.0 + i / 7 * (0.2 - 8.0) - SPECTRUM[i] for i in range(8)]
        return 1 + parameter * gaps.index(max(gaps))
    return parameter


@pytest.mark.parametrize("rule", SPECTRUM_RULES)
@pytest.mark.parametrize("factor", [1, 2.5])
def test_rules_of_the_spectrum(rule, factor):
    parameter = min(COUNT_PARAMETERS[rule] * factor, 1.0) if rule == "energy" else COUNT_PARAMETERS[rule] * factor
    latents = with_spectrum(SPECTRUM)
    found = SPECTRUM_RULES[rule](latents, parameter)
    assert float(found[0]) == pytest.approx(by_hand(rule, parameter), rel=1e-5)
    count = cluster_count(latents, None, ClusteringConfig(count_rule=rule, count_parameter=parameter))
    assert count.tolist() == [max(1, round(by_hand(rule, parameter)))]


def test_merge_cost_counts_the_merges_above_the_fraction():
    heights = torch.tensor([[1.0, 2.0, 4.0, 6.0]])  # costs 0.5, 2, 8, 18
    latents = Latents(torch.zeros(1, 5, 2), torch.tensor([[5.0, 2.0]]), 0.4, (1, 5))  # total variance 29
    for fraction, expected in [(0.01, 5), (0.05, 4), (0.1, 3), (0.5, 2), (0.7, 1)]:
        config = ClusteringConfig(count_rule="merge_cost", count_parameter=fraction)
        assert cluster_count(latents, MergeTree(torch.empty(0), heights, torch.empty(0)), config).tolist() == [expected]


@pytest.mark.parametrize("rule", COUNT_PARAMETERS)
def test_zero_spectrum_is_one_cluster(rule):
    latents = with_spectrum([0.0] * 8, [1e-6] * 8, SPECTRUM)
    dendrogram = MergeTree(torch.zeros(3, 31, 2).long(), torch.ones(3, 31), torch.ones(3, 31).long())
    count = cluster_count(latents, dendrogram, ClusteringConfig(count_rule=rule))
    assert count[:2].tolist() == [1, 1]


@pytest.mark.parametrize("max_clusters", [1, 2, 100])
def test_the_count_stays_in_its_limits(max_clusters):
    latents = with_spectrum(SPECTRUM)
    config = ClusteringConfig(count_rule="fixed", count_parameter=50, max_clusters=max_clusters)
    assert cluster_count(latents, None, config).tolist() == [min(max_clusters, 32)]


@pytest.mark.parametrize("linkage", ["ward", "complete", "average", "single"])
@pytest.mark.parametrize("connectivity", ["full", "4"])
def test_labels_are_scikit_learns(linkage, connectivity):
    points = torch.randn(2, 48, 5, generator=torch.Generator().manual_seed(7))
    config = ClusteringConfig(linkage=linkage, connectivity=connectivity)
    latents = Latents(points, torch.ones(2, 5), 0.1, (6, 8))
    labels = cluster_labels(latents, merge_tree(latents, config), torch.tensor([3, 6]))
    for image, clusters in enumerate([3, 6]):
        model = AgglomerativeClustering(
            clusters, linkage=linkage, connectivity=grid_to_graph(6, 8) if connectivity == "4" else None
        )
        assert partition(labels[image]) == partition(model.fit(points[image].double()).labels_)
