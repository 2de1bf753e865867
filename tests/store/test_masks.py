from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask

from oracles import encode_masks
from ovsr_gpu.store.masks import decode_run_lengths, paint_regions


def rows(region_map: np.ndarray) -> list[dict[str, object]]:
    height, width = region_map.shape
    return [{"height": height, "width": width, "rle": counts} for counts in encode_masks(region_map)]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (13, 9), (90, 120), (2000, 1500)])
@pytest.mark.parametrize("kinds", [1, 2, 6])
def test_regions_are_painted_where_their_masks_are(size: tuple[int, int], kinds: int) -> None:
    random = np.random.default_rng(kinds)
    # Also flat areas with long runs.
    coarse = random.integers(0, kinds, (size[0] // 40 + 1, size[1] // 40 + 1)).repeat(40, 0).repeat(40, 1)
    noise = random.integers(0, kinds, size)
    for values in (noise, coarse[: size[0], : size[1]]):
        region_map = np.unique(values, return_inverse=True)[1].reshape(size)
        colors = random.integers(0, 1 << 24, region_map.max() + 1)
        painted = paint_regions(rows(region_map), colors.tolist())
        assert painted.dtype == np.int32 and np.array_equal(painted, colors[region_map])


def test_what_is_in_no_region_is_zero() -> None:
    region_map = np.random.default_rng(0).integers(0, 5, (20, 30))
    some = rows(region_map)
    painted = paint_regions([some[3], some[1]], [7, 9])
    assert np.array_equal(painted, np.select([region_map == 3, region_map == 1], [7, 9]))
    assert (paint_regions([some[2]], [0]) == 0).all()


def test_run_lengths_are_those_that_were_encoded() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        counts = np.append(0, random.geometric(1 / random.choice([2, 50, 3000, 10**6]), 12))
        counts[0] = random.integers(0, 3)
        text = mask.frPyObjects({"counts": counts.tolist(), "size": [1, int(counts.sum())]}, 1, int(counts.sum()))
        assert decode_run_lengths(text["counts"].decode()).tolist() == counts.tolist()
