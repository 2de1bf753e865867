import pytest
import torch

from ovsr_gpu import ModelConfig
from ovsr_gpu.models.network_batch import NetworkBatch, clip_dtype, float32_convolutions
from ovsr_gpu.runtime.device import choose_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


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


def test_a_cpu_takes_few_large_images_at_a_time():
    auto = ModelConfig()
    assert [NetworkBatch.of(side, CPU, auto).most for side in (160, 224, 448, 4096)] == [10, 5, 1, 1]
    assert NetworkBatch.of(448, GPU, auto) == NetworkBatch(64, full=False)
    assert NetworkBatch.of(448, CPU, ModelConfig(batch=3, full_batches=True)) == NetworkBatch(3, full=True)


def test_a_full_batch_is_filled_with_zeros_that_do_not_come_back():
    seen = []

    def network(rows):
        seen.append(rows)
        return rows.flatten(1).sum(1)

    rows = torch.arange(12.0).view(2, 3, 2, 1)
    assert torch.equal(NetworkBatch(5, full=True).run(network, rows), torch.tensor([15.0, 51.0]))
    assert torch.equal(NetworkBatch(5).run(network, rows), torch.tensor([15.0, 51.0]))
    assert torch.equal(NetworkBatch(2, full=True).run(network, rows), torch.tensor([15.0, 51.0]))
    assert [len(one) for one in seen] == [5, 2, 2]
    assert torch.equal(seen[0][:2], rows) and not seen[0][2:].any()


def test_half_precision_is_for_the_gpu():
    assert clip_dtype(CPU, ModelConfig()) == torch.float32 and clip_dtype(GPU, ModelConfig()) == torch.float16
    assert clip_dtype(GPU, ModelConfig(clip_precision="bfloat16")) == torch.bfloat16


@pytest.mark.parametrize("before", [True, False])
def test_tf32_is_off_inside_and_as_before_after(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    with pytest.raises(KeyError), float32_convolutions():
        with float32_convolutions():
            assert torch.backends.cudnn.allow_tf32 is False
        raise KeyError
    assert torch.backends.cudnn.allow_tf32 is before


def test_the_newer_setting_of_torch_stays_as_it_is():
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        with float32_convolutions():
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == "ieee"
    finally:
        convolutions.fp32_precision = before
