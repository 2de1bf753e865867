"""COCO's compressed run-length encoding of all region masks of a batch, computed on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ovsr_gpu.runtime.async_copy import PendingInteger, PendingTensors

if TYPE_CHECKING:
    from ovsr_gpu.results import Regions

MAX_CODE_LENGTH = 7
"""Maximum number of characters, of 5 bits each, for a difference of two run lengths below 2^31 pixels."""


class RunLengthEncoder:
    """Encoder of the region masks of a batch as runs of pixels in column-major order.

    The constructor finds the runs and starts to copy their number to the host asynchronously; `encode` waits for it.

    Args:
        region_maps: The B `[H, W]` int32 region maps.
        regions: All regions of the batch, none of them empty.
    """

    def __init__(self, region_maps: Sequence[Tensor], regions: Regions) -> None:
        self._image_index, self._areas = regions.image_index, regions.areas
        offsets = regions.offsets(len(region_maps)).to(torch.int32).unbind()
        columns = [
            (region_map.mT + offset).reshape(-1) for region_map, offset in zip(region_maps, offsets, strict=True)
        ]
        self._region = torch.cat(columns)  # region row of every pixel of the batch
        self._is_run_start = torch.ones_like(self._region, dtype=torch.bool)
        torch.ne(self._region[1:], self._region[:-1], out=self._is_run_start[1:])
        self._num_runs = PendingInteger(self._is_run_start.sum())

    def encode(self) -> PendingRunLengths:
        """Return the compressed counts of all N regions and start to copy them to the host; blocks for the run count.

        The counts of a region are, alternately, the number of pixels outside and inside it, up to the end of its image.
        """
        region, start, stop = self._sorted_runs()
        num_regions, num_runs = len(self._areas), len(region)
        image_pixels = torch.zeros_like(self._areas).scatter_add_(0, self._image_index, self._areas)  # B <= N
        image_stop = image_pixels.cumsum(0)[self._image_index]  # [N], like all tensors of regions below
        image_start = image_stop - image_pixels[self._image_index]
        last_run = torch.zeros_like(self._areas).scatter_add_(0, region, torch.ones_like(region)).cumsum(0) - 1

        previous_stop = torch.where(_is_first(region), image_start[region], stop.roll(1))
        run_slot = 2 * torch.arange(num_runs, device=region.device) + region
        end_slot = 2 * (last_run + 1) + torch.arange(num_regions, device=region.device)
        slots = torch.cat([run_slot, run_slot + 1, end_slot])
        counts = _scattered(slots, torch.cat([start - previous_stop, stop - start, image_stop - stop[last_run]]))
        count_region = _scattered(slots, torch.cat([region, region, torch.arange(num_regions, device=region.device)]))

        index = torch.arange(len(slots), device=region.device)
        index_in_region = index - torch.cat([torch.zeros_like(end_slot[:1]), end_slot[:-1] + 1])[count_region]
        differences = torch.where(index_in_region > 2, counts - counts.roll(2), counts)
        is_empty_end = torch.zeros_like(counts, dtype=torch.bool).scatter_(0, end_slot, counts[end_slot] == 0)
        codes = _codes(differences) * ~is_empty_end[:, None]
        lengths = torch.zeros_like(self._areas).scatter_add_(0, count_region, (codes > 0).sum(1))
        return PendingRunLengths(codes, lengths)

    def _sorted_runs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the region, first pixel and end of every run, `[runs]` int64 each, sorted by region."""
        start = torch.nonzero_static(self._is_run_start, size=self._num_runs.read())[:, 0]
        stop = torch.cat([start[1:], torch.full_like(start[:1], len(self._region))])
        region = self._region[start].long()
        order = region.argsort(stable=True)
        return region[order], start[order], stop[order]


class PendingRunLengths(PendingTensors):
    """Compressed run lengths that are being copied to the host asynchronously.

    Args:
        codes: `[counts, MAX_CODE_LENGTH]` uint8, the characters of each count, padded with zeros.
        lengths: `[N]` int64, the number of characters of each region.
    """

    def __init__(self, codes: Tensor, lengths: Tensor) -> None:
        super().__init__(codes, lengths)

    def read(self) -> list[str]:
        """Return the counts of the N regions in the format of `counts` in pycocotools; blocks until they arrive."""
        codes, lengths = (tensor.numpy() for tensor in self.wait())
        text = codes[codes > 0].tobytes().decode("ascii")
        stops = lengths.cumsum()
        return [text[stop - length : stop] for stop, length in zip(stops.tolist(), lengths.tolist(), strict=True)]


def _is_first(values: Tensor) -> Tensor:
    """Return whether each value differs from the one before it."""
    return torch.cat([torch.ones_like(values[:1], dtype=torch.bool), values[1:] != values[:-1]])


def _scattered(slots: Tensor, values: Tensor) -> Tensor:
    """Return a tensor with `values` at `slots`, a permutation."""
    return torch.empty_like(values).scatter_(0, slots, values)


def _codes(values: Tensor) -> Tensor:
    """Encode each value like pycocotools: 5 bits a character, lowest bits first; a sixth bit marks continuation."""
    shift = 5 * torch.arange(MAX_CODE_LENGTH, device=values.device)
    bits = values[:, None] >> shift & 31
    rest = values[:, None] >> shift + 5
    has_more = rest != -(bits >> 4)  # the highest bit written is the sign
    is_used = torch.cat([torch.ones_like(has_more[:, :1]), has_more[:, :-1].cummin(1).values], dim=1)
    return ((bits | has_more.long() << 5) + 48).mul_(is_used).to(torch.uint8)
