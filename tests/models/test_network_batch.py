"""Batch size and numeric precision of the networks."""

from __future__ import annotations

import pytest
import torch

from ovsr_gpu import ModelConfig
from ovsr_gpu.models.network_batch import NetworkBatch, clip_dtype, float32_convolutions

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_batches_on_a_cpu_are_small():
    auto = ModelConfig()
    assert [NetworkBatch.of(side, CPU, auto).max_rows for side in (160, 224, 448, 4096)] == [10, 5, 1, 1]
    assert NetworkBatch.of(448, GPU, auto) == NetworkBatch(64, is_fixed=False)
    assert NetworkBatch.of(448, CPU, ModelConfig(batch=3, full_batches=True)) == NetworkBatch(3, is_fixed=True)


def test_the_padding_of_a_fixed_batch_is_removed():
    seen = []

    def network(rows):
        seen.append(rows)
        return rows.flatten(1).sum(1)

    rows = torch.arange(12.0).view(2, 3, 2, 1)
    assert torch.equal(NetworkBatch(5, is_fixed=True).run(network, rows), torch.tensor([15.0, 51.0]))
    assert torch.equal(NetworkBatch(5).run(network, rows), torch.tensor([15.0, 51.0]))
    assert torch.equal(NetworkBatch(2, is_fixed=True).run(network, rows), torch.tensor([15.0, 51.0]))
    assert [len(batch) for batch in seen] == [5, 2, 2]
    assert torch.equal(seen[0][:2], rows) and not seen[0][2:].any()


def test_half_precision_is_the_default_on_a_gpu():
    assert clip_dtype(CPU, ModelConfig()) == torch.float32 and clip_dtype(GPU, ModelConfig()) == torch.float16
    assert clip_dtype(GPU, ModelConfig(clip_precision="bfloat16")) == torch.bfloat16


@pytest.mark.parametrize("before", [True, False])
def test_tf32_is_off_inside_and_restored_after(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    with pytest.raises(KeyError), float32_convolutions():
        with float32_convolutions():
            assert torch.backends.cudnn.allow_tf32 is False
        raise KeyError
    assert torch.backends.cudnn.allow_tf32 is before


def test_the_newer_setting_of_torch_is_unchanged():
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        with float32_convolutions():
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == "ieee"
    finally:
        convolutions.fp32_precision = before
