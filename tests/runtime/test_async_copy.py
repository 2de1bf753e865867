"""Asynchronous copies between host and device."""

from __future__ import annotations

import torch

from devices import DEVICE
from ovsr_gpu.runtime.async_copy import PendingInteger, PendingTensors, to_device


def test_tensors_are_copied_to_the_device_and_back():
    device = torch.device(DEVICE)
    sent = [torch.arange(6).view(2, 3), torch.tensor([1.5, -2.0])]
    on_device = to_device(sent, device)
    assert [tensor.device.type for tensor in on_device] == [device.type] * 2
    on_host = PendingTensors(on_device[0].T, on_device[1] * 2).wait()
    assert all(tensor.device.type == "cpu" for tensor in on_host)
    assert torch.equal(on_host[0], sent[0].T) and torch.equal(on_host[1], sent[1] * 2)
    assert PendingTensors().wait() == ()
    assert PendingInteger(on_device[0].sum()).read() == 15
