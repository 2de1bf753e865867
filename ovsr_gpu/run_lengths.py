"""The masks of all regions of a batch as COCO's compressed run lengths, encoded together on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ovsr_gpu.runtime.async_copy import PendingInteger, PendingTensors

if TYPE_CHECKING:
    from ovsr_gpu.results import Regions

LONGEST_CODE = 7
"""Characters of 5 bits that a difference of two run lengths takes at most, of less than 2^31 pixels each."""


class Masks:
    """The regions of a batch of images as runs of pixels down their columns.

    region_maps: the B `[H, W]` int32 maps. regions: all of them, each with a pixel at least. How many runs there are is
    on its way to the host from then on; `encode` waits for it.
    """

    def __init__(self, region_maps: Sequence[Tensor], regions: Regions) -> None:
        self._image_index, self._areas = regions.image_index, regions.areas
        firsts = regions.firsts(len(region_maps)).to(torch.int32).unbind()
        columns = [(region_map.mT + first).reshape(-1) for region_map, first in zip(region_maps, firsts, strict=True)]
        self._region = torch.cat(columns)  # of every pixel, numbered through the batch
        self._begins = torch.ones_like(self._region, dtype=torch.bool)
        torch.ne(self._region[1:], self._region[:-1], out=self._begins[1:])
        self._runs = PendingInteger(self._begins.sum())

    def encode(self) -> PendingRunLengths:
        """The compressed counts of all N regions, on their way to the host.

        The counts of a region are, in turn, the pixels outside of it and those inside, until its image ends.
        """
        region, start, stop = self._sorted_runs()
        regions, runs = len(self._areas), len(region)
        pixels = torch.zeros_like(self._areas).scatter_add_(0, self._image_index, self._areas)  # by image, B <= N
        image_stop = pixels.cumsum(0)[self._image_index]  # by region, as all below that is [N]
        image_start = image_stop - pixels[self._image_index]
        last = torch.zeros_like(self._areas).scatter_add_(0, region, torch.ones_like(region)).cumsum(0) - 1

        before = torch.where(_is_first(region), image_start[region], stop.roll(1))
        run_slot = 2 * torch.arange(runs, device=region.device) + region
        end_slot = 2 * (last + 1) + torch.arange(regions, device=region.device)
        slots = torch.cat([run_slot, run_slot + 1, end_slot])
        counts = _placed(slots, torch.cat([start - before, stop - start, image_stop - stop[last]]))
        owner = _placed(slots, torch.cat([region, region, torch.arange(regions, device=region.device)]))

        place = torch.arange(len(slots), device=region.device)
        place_in_region = place - torch.cat([torch.zeros_like(end_slot[:1]), end_slot[:-1] + 1])[owner]
        differences = torch.where(place_in_region > 2, counts - counts.roll(2), counts)
        is_empty_end = torch.zeros_like(counts, dtype=torch.bool).scatter_(0, end_slot, counts[end_slot] == 0)
        codes = _codes(differences) * ~is_empty_end[:, None]
        lengths = torch.zeros_like(self._areas).scatter_add_(0, owner, (codes > 0).sum(1))
        return PendingRunLengths(codes, lengths)

    def _sorted_runs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The region, first pixel and end of every run, `[runs]` int64 each, region by region."""
        start = torch.nonzero_static(self._begins, size=self._runs.read())[:, 0]
        stop = torch.cat([start[1:], torch.full_like(start[:1], len(self._region))])
        region = self._region[start].long()
        order = region.argsort(stable=True)
        return region[order], start[order], stop[order]


class PendingRunLengths(PendingTensors):
    """Compressed run lengths as they leave the device.

    codes: `[counts, LONGEST_CODE]` uint8, the characters of each count, zeros behind them. lengths: `[N]` int64, the
    characters of each region.
    """

    def __init__(self, codes: Tensor, lengths: Tensor) -> None:
        super().__init__(codes, lengths)

    def read(self) -> list[str]:
        """The counts of the N regions, as `pycocotools` has them in `counts`."""
        codes, lengths = (tensor.numpy() for tensor in self.wait())
        text = codes[codes > 0].tobytes().decode("ascii")
        stops = lengths.cumsum()
        return [text[stop - length : stop] for stop, length in zip(stops.tolist(), lengths.tolist(), strict=True)]


def _is_first(values: Tensor) -> Tensor:
    """Whether each differs from the one before it."""
    return torch.cat([torch.ones_like(values[:1], dtype=torch.bool), values[1:] != values[:-1]])


def _placed(slots: Tensor, values: Tensor) -> Tensor:
    return torch.empty_like(values).scatter_(0, slots, values)


def _codes(values: Tensor) -> Tensor:
    """Each value as pycocotools writes it: 5 bits a character, the lowest first, with a sixth where more follow."""
    shift = 5 * torch.arange(LONGEST_CODE, device=values.device)
    bits = values[:, None] >> shift & 31
    rest = values[:, None] >> shift + 5
    more = rest != -(bits >> 4)  # the sign is that of the highest bit written
    there = torch.cat([torch.ones_like(more[:, :1]), more[:, :-1].cummin(1).values], dim=1)
    return ((bits | more.long() << 5) + 48).mul_(there).to(torch.uint8)
