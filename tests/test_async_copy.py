"""Copies between host and device that nobody waits for before he must."""

from __future__ import annotations

import torch

from devices import DEVICE
from ovsr_gpu.runtime.async_copy import PendingInteger, PendingTensors, to_device


def test_tensors_go_to_the_device_and_come_back():
    device = torch.device(DEVICE)
    sent = [torch.arange(6).view(2, 3), torch.tensor([1.5, -2.0])]
    there = to_device(sent, device)
    assert [one.device.type for one in there] == [device.type] * 2
    back = PendingTensors(there[0].T, there[1] * 2).wait()
    assert all(one.device.type == "cpu" for one in back)
    assert torch.equal(back[0], sent[0].T) and torch.equal(back[1], sent[1] * 2)
    assert PendingTensors().wait() == ()
    assert PendingInteger(there[0].sum()).read() == 15
