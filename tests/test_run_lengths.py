"""Masks encoded on the device equal those of pycocotools character by character."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devices import DEVICE
from host_reads import NoHostReads
from oracles import encode_masks
from ovsr_gpu.results import Regions
from ovsr_gpu.run_lengths import RunLengthEncoder


def regions_of(maps: list[np.ndarray]) -> Regions:
    areas = [np.bincount(region_map.ravel()) for region_map in maps]
    image_index = np.repeat(np.arange(len(maps)), [len(own) for own in areas])
    boxes = torch.zeros(len(image_index), 4, dtype=torch.int64)
    columns = (torch.from_numpy(image_index), boxes, torch.from_numpy(np.concatenate(areas)))
    return Regions(*(column.to(DEVICE) for column in columns))


def numbered(values: np.ndarray) -> np.ndarray:
    """A map with numbers 0..n-1, each of them there."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int32)


def encode(maps: list[np.ndarray]) -> list[str]:
    return RunLengthEncoder([torch.from_numpy(one).to(DEVICE) for one in maps], regions_of(maps)).encode().read()


@pytest.mark.parametrize("sizes", [[(1, 1)], [(1, 9), (9, 1), (1, 1)], [(3, 5), (30, 40), (7, 2)], [(64, 64)] * 3])
@pytest.mark.parametrize("kinds", [1, 2, 5, 300])
def test_letter_by_letter(sizes: list[tuple[int, int]], kinds: int) -> None:
    random = np.random.default_rng(kinds)
    maps = [numbered(random.integers(0, kinds, size)) for size in sizes]
    assert encode(maps) == [text for one in maps for text in encode_masks(one)]


def test_long_runs_take_many_letters() -> None:
    stripes = np.repeat(np.arange(5, dtype=np.int32), [1, 3000, 2, 900, 1])[None].repeat(1500, 0)
    one_pixel = np.zeros((1200, 1200), np.int32)
    one_pixel[600, 600] = 1
    maps = [stripes, stripes.T.copy(), one_pixel, np.zeros((2000, 1000), np.int32)]
    assert encode(maps) == [text for one in maps for text in encode_masks(one)]


def test_a_map_on_a_padded_canvas() -> None:
    canvas = numbered(np.random.default_rng(0).integers(0, 4, (20, 30)))
    inside = np.ascontiguousarray(canvas[:12, :17])
    view = torch.from_numpy(canvas).to(DEVICE)[:12, :17]
    assert RunLengthEncoder([view], regions_of([inside])).encode().read() == encode_masks(inside)


def test_only_the_number_of_runs_comes_to_the_host_before_the_masks() -> None:
    maps = [numbered(np.random.default_rng(1).integers(0, 6, (16, 24)))] * 2
    regions = regions_of(maps)
    on_device = [torch.from_numpy(one).to(DEVICE) for one in maps]
    with NoHostReads() as guard:
        late = RunLengthEncoder(on_device, regions).encode()
    assert guard.num_pending_reads == 1
    assert late.read() == encode_masks(maps[0]) * 2


@pytest.mark.gpu
def test_the_gpu_gives_the_cpus_letters_without_a_wait() -> None:
    random = np.random.default_rng(0)
    maps = [numbered(random.integers(0, 30, (12, 16)).repeat(40, 0).repeat(40, 1)) for _ in range(16)]
    regions = regions_of(maps)
    on_device = [torch.from_numpy(one).cuda() for one in maps]
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")  # the number of runs comes by an event
        late = RunLengthEncoder(on_device, regions).encode()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert late.read() == [text for one in maps for text in encode_masks(one)]
