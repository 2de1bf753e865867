"""The choice of the device."""

from __future__ import annotations

import pytest
import torch

from ovsr_gpu.runtime.device import choose_device


@pytest.mark.parametrize("has_cuda", [True, False])
def test_auto_is_cuda_or_the_cpu(monkeypatch, has_cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == ("cuda" if has_cuda else "cpu")


def test_by_name():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "meta", "cuda:99", ""])
def test_invalid_devices(name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu'"):
        choose_device(name)
