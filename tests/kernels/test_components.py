import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import absorb_one_by_one, label_pieces, number_by_first
from ovsr_gpu.kernels.components import absorb_small, connected_components


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    levels=st.integers(1, 4),
    least=st.floats(0, 12),
    seed=st.integers(0, 1000),
)
def test_components_and_absorption(height, width, levels, least, seed):
    labels = np.random.default_rng(seed).integers(0, levels, (3, height, width))
    components = connected_components(torch.tensor(labels))
    expected = np.stack([label_pieces(one) for one in labels])
    assert np.array_equal(components, expected)
    absorbed = absorb_small(components, least)
    assert np.array_equal(absorbed, np.stack([number_by_first(absorb_one_by_one(one, least)) for one in expected]))


def test_a_long_winding_component():
    """A comb whose teeth hang together only at the far end."""
    labels = torch.zeros(1, 21, 21, dtype=torch.int64)
    labels[0, 1::4, :-1] = 1
    labels[0, 3::4, 1:] = 1
    assert connected_components(labels).max() == 10
    assert connected_components(labels)[0, 0].unique().tolist() == [0]


@pytest.mark.parametrize("position", range(3))
def test_batch_position_does_not_matter(position):
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(1))
    alone = absorb_small(connected_components(labels[position : position + 1]), 5)
    assert torch.equal(absorb_small(connected_components(labels), 5)[position], alone[0])
