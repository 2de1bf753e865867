"""Batched antialiased crop and resize of boxes, with the results of Pillow 13's `Image.crop().resize(BICUBIC)`.

The resize is separable and linear. A pass along one axis makes each output line a weighted sum of a few input lines,
which is what `embedding_bag` computes: the lines are the table, the taps of an output line are its bag. As in Pillow,
weights have 22 fractional bits, each pass rounds to whole grey values, and boxes that shrink mostly in height go
through the vertical pass first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

_WEIGHT_BITS = 22
_HALF = 1 << 11
_SUPPORT = 2.0  # of the bicubic kernel, in output pixels when shrinking, in input pixels when growing


def crop_resize(
    images: Tensor,
    image_index: Tensor,
    boxes: Tensor,
    side: int,
    *,
    resized: Tensor,
    offset: Tensor,
    fill: float = 0.0,
) -> Tensor:
    """A `side` x `side` window on each resized box: `[N, 3, side, side]` float32 of whole values 0 to 255.

    images: `[B, 3, H, W]` uint8. image_index: `[N]` int64. boxes: `[N, 4]` int64 (x0, y0, x1, y1), x1 and y1 exclusive,
        inside their image and not empty.
    resized: `[N, 2]` int64, height and width to which the box is resized. offset: `[N, 2]` int64, row and column of the
        window's corner in the resized box; what lies outside the resized box is `fill`.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"images must be a [B, 3, H, W] uint8 tensor; got {list(images.shape)} {images.dtype}")
    used, image_index = image_index.unique(return_inverse=True)
    images = images[used]
    crops = images.new_empty(len(boxes), 3, side, side, dtype=torch.float32)
    x0, y0, x1, y1 = boxes.unbind(1)
    height, width = resized.unbind(1)
    shrink_y, shrink_x = (y1 - y0) - height, (x1 - x0) - width
    vertical_first = (shrink_y > 0) & (shrink_y > 2 * shrink_x)
    column = _Axis(x0, x1, width, offset[:, 1])
    row = _Axis(y0, y1, height, offset[:, 0])

    across = (~vertical_first).nonzero()[:, 0]
    if len(across):
        lines = images.permute(0, 3, 1, 2)  # [B, W, 3, H]
        crops[across] = _two_passes(lines, image_index[across], column[across], row[across], side)
    down = vertical_first.nonzero()[:, 0]
    if len(down):
        lines = images.permute(0, 2, 1, 3)  # [B, H, 3, W]
        crops[down] = _two_passes(lines, image_index[down], row[down], column[down], side).mT

    at = torch.arange(side, device=boxes.device)
    inside_y = ((at + offset[:, :1] >= 0) & (at + offset[:, :1] < resized[:, :1]))[:, None, :, None]
    inside_x = ((at + offset[:, 1:] >= 0) & (at + offset[:, 1:] < resized[:, 1:]))[:, None, None, :]
    return torch.where(inside_y & inside_x, crops, fill)


class _Axis:
    """The boxes along one axis: [start, stop) resized to `length` lines, of which the window begins at line `first`."""

    def __init__(self, start: Tensor, stop: Tensor, length: Tensor, first: Tensor) -> None:
        self.start, self.stop, self.length, self.first = start, stop, length, first

    def __getitem__(self, index: Tensor) -> _Axis:
        return _Axis(self.start[index], self.stop[index], self.length[index], self.first[index])

    def taps(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Input lines of each line of the window, int64, and the upper and lower half of their weights, whole float32
        values in units of 2^-11 and 2^-22: three times `[N, side, taps]`."""
        device = self.start.device
        exact = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
        start, stop, length, first = (
            one[:, None].to(exact) for one in (self.start, self.stop, self.length, self.first)
        )
        count = stop - start
        scale = count.double() / length
        stretch = scale.clamp_min(1.0)
        line = (first + torch.arange(side, device=exact)).double()
        centre = (line + 0.5) * scale  # [N, side]
        lowest = (centre - _SUPPORT * stretch + 0.5).long().clamp_min(0)
        highest = torch.minimum((centre + _SUPPORT * stretch + 0.5).long(), count)
        most = int(2 * torch.ceil(_SUPPORT * stretch).max()) + 1
        taps = lowest[:, :, None] + torch.arange(most, device=exact)
        weights = _bicubic((taps - centre[:, :, None] + 0.5) / stretch[:, :, None])
        weights = torch.where(taps < highest[:, :, None], weights, 0.0)
        total = weights.sum(2, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)  # no taps: a line outside the resized box
        weights = torch.floor(weights.abs() * (1 << _WEIGHT_BITS) + 0.5) * weights.sign()
        coarse = torch.floor(weights / _HALF)
        taps = torch.minimum(taps, count[:, :, None] - 1) + start[:, :, None]
        fine = weights - coarse * _HALF
        return taps.clamp_min(0).to(device), coarse.float().to(device), fine.float().to(device)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _two_passes(lines: Tensor, image_index: Tensor, first: _Axis, second: _Axis, side: int) -> Tensor:
    """Resize along the axis of `lines` `[B, F, 3, G]`, then along G: `[N, 3, side of G, side of F]`."""
    once = _pass(lines, image_index, first, side)  # [N, side, 3, G]
    every = torch.arange(len(once), device=once.device)
    return _pass(once.permute(0, 3, 2, 1), every, second, side).permute(0, 2, 1, 3)


def _pass(lines: Tensor, owner: Tensor, axis: _Axis, side: int) -> Tensor:
    """Weighted sums of lines: `[tables, lines, 3, G]` -> `[N, side, 3, G]`, rounded to whole values."""
    count, channels, length = lines.shape[1:]
    taps, coarse, fine = axis.taps(side)
    used = ((coarse != 0) | (fine != 0)).flatten(0, 1)  # [N * side, taps]
    taps = (taps + owner[:, None, None] * count).flatten(0, 1)[used]
    bags = used.sum(1).cumsum(0) - used.sum(1)
    table = lines.reshape(-1, channels * length).float()
    # A sum of 22-bit weights times 8-bit pixels does not fit float32; the sums of the weights' halves do.
    coarse, fine = (
        embedding_bag(taps, table, bags, per_sample_weights=half.flatten(0, 1)[used], mode="sum")
        for half in (coarse, fine)
    )
    summed = fine.div_(_HALF).floor_().add_(coarse)
    return summed.add_(_HALF / 2).div_(_HALF).floor_().clamp_(0, 255).view(-1, side, channels, length)
