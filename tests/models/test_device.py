import pytest
import torch

from ovsr_gpu.models.device import choose_device, network_batch


@pytest.mark.parametrize("has_cuda", [True, False])
def test_auto_takes_cuda_or_the_cpu(monkeypatch, has_cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == ("cuda" if has_cuda else "cpu")


def test_by_name():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["abacus", "meta", "cuda:99", ""])
def test_refused(wanted):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu'"):
        choose_device(wanted)


def test_a_cpu_takes_few_large_pictures_at_a_time():
    cpu = torch.device("cpu")
    assert [network_batch(cpu, side) for side in (160, 224, 448, 4096)] == [10, 5, 1, 1]
    assert network_batch(torch.device("cuda"), 448) == 64
