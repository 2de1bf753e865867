"""The order of work with one item in flight, and copies that arrive late."""

from __future__ import annotations

import pytest
import torch

from devices import DEVICE
from ovsr_gpu.transfers import LateInteger, LateTensors, one_late, to_device


@pytest.mark.parametrize("count", range(4))
def test_each_item_is_finished_once_the_next_is_begun(count):
    log = []

    def begin(item):
        log.append(f"begin {item}")
        return 10 * item

    def finish(begun):
        log.append(f"finish {begun // 10}")
        return begun + 1

    assert list(one_late(range(count), begin, finish)) == [10 * item + 1 for item in range(count)]
    by_hand = {
        0: [],
        1: ["begin 0", "finish 0"],
        2: ["begin 0", "begin 1", "finish 0", "finish 1"],
        3: ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "finish 2"],
    }
    assert log == by_hand[count]


def test_nothing_is_taken_before_it_is_asked_for():
    taken = []
    results = one_late((taken.append(i) or i for i in range(9)), lambda item: item, lambda begun: begun)
    assert taken == []
    next(results)
    assert taken == [0, 1]


def test_tensors_go_to_the_device_and_come_back():
    device = torch.device(DEVICE)
    sent = [torch.arange(6).view(2, 3), torch.tensor([1.5, -2.0])]
    there = to_device(sent, device)
    assert [one.device.type for one in there] == [device.type] * 2
    back = LateTensors(there[0].T, there[1] * 2).wait()
    assert all(one.device.type == "cpu" for one in back)
    assert torch.equal(back[0], sent[0].T) and torch.equal(back[1], sent[1] * 2)
    assert LateTensors().wait() == ()
    assert LateInteger(there[0].sum()).read() == 15
