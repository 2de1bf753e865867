import numpy as np
import torch
from scipy.cluster.hierarchy import linkage

from oracles import cut_by_sets
from oracles import number_by_first as expected_numbers
from ovsr_gpu.kernels.trees import cut, number_by_first


def test_cut_applies_the_first_merges():
    generator = np.random.default_rng(0)
    for pixels in (1, 2, 3, 17):
        trees = (
            [linkage(generator.normal(size=(pixels, 3)), "average")[:, :2].astype(int) for _ in range(4)]
            if pixels > 1
            else [np.zeros((0, 2), int)] * 4
        )
        children = torch.tensor(np.stack(trees))
        for clusters in ([1] * 4, [pixels] * 4, generator.integers(1, pixels + 1, 4).tolist()):
            labels = cut(children, torch.tensor(clusters))
            assert labels.tolist() == [cut_by_sets(tree, k) for tree, k in zip(trees, clusters, strict=True)]


def test_cut_of_a_chain():
    """The deepest possible tree: every merge adds one pixel to the same cluster."""
    pixels = 300
    children = torch.tensor([[[0, 1]] + [[2 + m, pixels + m] for m in range(pixels - 2)]])
    assert cut(children, torch.tensor([1]))[0].unique().tolist() == [0]
    assert cut(children, torch.tensor([2]))[0].tolist() == [0] * (pixels - 1) + [1]


def test_number_by_first_equals_the_oracle():
    labels = torch.randint(0, 40, (5, 20), generator=torch.Generator().manual_seed(0))
    assert number_by_first(labels).tolist() == [expected_numbers(row).tolist() for row in labels.numpy()]
