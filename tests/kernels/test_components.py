import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import DEVICE, on_gpu
from oracles import absorb_one_by_one, label_components, number_by_first
from ovsr_gpu.kernels.components import absorb_small, connected_components


def comb(height, width):
    """Return labels with one component of teeth that are connected only at alternating ends."""
    labels = torch.zeros(1, height, width, dtype=torch.int64)
    labels[0, 1::4, :-1] = 1
    labels[0, 3::4, 1:] = 1
    return labels


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    levels=st.integers(1, 4),
    min_area=st.floats(0, 12),
    seed=st.integers(0, 1000),
)
def test_components_and_absorption_equal_the_oracle(height, width, levels, min_area, seed):
    labels = np.random.default_rng(seed).integers(0, levels, (3, height, width))
    components = connected_components(torch.tensor(labels))
    expected = np.stack([label_components(one) for one in labels])
    assert np.array_equal(components, expected)
    absorbed = absorb_small(components, min_area)
    assert np.array_equal(absorbed, np.stack([number_by_first(absorb_one_by_one(one, min_area)) for one in expected]))


def test_long_winding_component():
    assert connected_components(comb(21, 21)).max() == 10
    assert connected_components(comb(21, 21))[0, 0].unique().tolist() == [0]


@pytest.mark.parametrize("position", range(3))
def test_batch_position_does_not_change_the_result(position):
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(1))
    alone = absorb_small(connected_components(labels[position : position + 1]), 5)
    assert torch.equal(absorb_small(connected_components(labels), 5)[position], alone[0])


@pytest.mark.parametrize("side", [(1, 1), (1, 9), (7, 5), (10, 13), *on_gpu((40, 40), (181, 181))])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_triton_equals_torch(levels, side):
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    labels = torch.randint(0, levels, (2, *side), generator=torch.Generator().manual_seed(levels))
    labels = torch.cat([labels, comb(*side)])
    components = connected_components(labels, backend="torch")
    assert torch.equal(connected_components(labels.to(DEVICE), backend="triton").cpu(), components)
    for min_area in (0, 2.5, 9, 10_000):
        found = absorb_small(components.to(DEVICE), min_area, backend="triton")
        assert torch.equal(found.cpu(), absorb_small(components, min_area, backend="torch"))


@pytest.mark.gpu
def test_no_host_synchronization_and_identical_repetitions():
    labels = torch.randint(0, 3, (8, 40, 40), generator=torch.Generator().manual_seed(0)).cuda()
    first = absorb_small(connected_components(labels), 8)
    differs = torch.zeros((), dtype=torch.int64, device=DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(1000):
            differs += (absorb_small(connected_components(labels), 8) != first).sum()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(differs) == 0


def test_invalid_input():
    with pytest.raises(ValueError, match=r"labels must be int64 of shape \[B, h, w\].*got \[4, 4\] torch.int64"):
        connected_components(torch.zeros(4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="components must be int64"):
        absorb_small(torch.zeros(1, 4, 4), 2)
    with pytest.raises(ValueError, match="auto, torch, triton; got 'numba'"):
        connected_components(torch.zeros(1, 4, 4, dtype=torch.int64), backend="numba")
