"""Crop and resize as three Triton kernels: the weights of every axis, the first pass, the second pass with the finish.

Between the passes stand whole grey values, so a picture of uint8, `halfway`, loses nothing. The host never knows how
many taps or lines a box has: tables are as large as any box in these images can need, and each program reads from the
box at hand what it has to do. Multiplications and additions must not be fused where the weights are made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ovsr_gpu.kernels.crop_resize.arguments import SUPPORT, WEIGHT_BITS, Finish, Windows
from ovsr_gpu.kernels.linkage.ieee_triton import divide

BITS = tl.constexpr(WEIGHT_BITS)
HALF = tl.constexpr(1 << (WEIGHT_BITS - 1))
UNIT = tl.constexpr(1 << WEIGHT_BITS)
WEIGHTS_TUNING = {"LINES": 128, "num_warps": 4, "enable_fp_fusion": False}
PASS_TUNING = {"ROWS": 8, "COLUMNS": 64, "num_warps": 4, "enable_fp_fusion": False}
FIRST_PASS_PROGRAMS = 64
"""A region at most, which take the tiles of its first pass in turns."""


@triton.jit
def axis_of(boxes, resized, offset, region, axis, S):
    """One axis of a region, 0 for the rows, 1 for the columns.

    Returns where the box starts, its length, the length to which it is resized, the resized line at which the window
    starts, and the window's first place and number of places that lie on the resized box.
    """
    start = tl.load(boxes + 4 * region + 1 - axis)
    length = (tl.load(boxes + 4 * region + 3 - axis) - start).to(tl.int32)
    size = tl.load(resized + 2 * region + axis).to(tl.int32)
    corner = tl.load(offset + 2 * region + axis).to(tl.int32)
    first = tl.maximum(-corner, 0)
    count = tl.maximum(tl.minimum(size - corner, S) - first, 0)
    return start, length, size, corner, first, count


@triton.jit
def tap_bound(length, size, SUPPORT: tl.constexpr):
    """No output line has more taps, Pillow's rounding included."""
    return tl.minimum(2 * tl.maximum((SUPPORT * length + size - 1) // size, SUPPORT) + 1, length)


@triton.jit
def filter_value(x, SUPPORT: tl.constexpr):
    x = tl.abs(x)
    if SUPPORT == 1:
        return tl.where(x < 1, 1 - x, 0.0)
    else:
        near = (1.5 * x - 2.5) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * -0.5
        return tl.where(x < 1, near, tl.where(x < 2, far, 0.0))


@triton.jit
def line_weights(boxes, resized, offset, lowest, weights, TABLE, S, SUPPORT: tl.constexpr, LINES: tl.constexpr):
    """First tap and 22-bit weights of the lines of a window, by the steps of Pillow's `precompute_coeffs`.

    lowest: `[N, 2, S]`. weights: `[N, 2, TABLE]`, in each row `[taps, count]`.
    """
    region = tl.program_id(0).to(tl.int64)
    axis = tl.program_id(1)
    place = tl.program_id(2) * LINES + tl.arange(0, LINES)
    _, length, size, corner, first, count = axis_of(boxes, resized, offset, region, axis, S)
    inside = place < count
    lowest += (2 * region + axis) * S
    weights += (2 * region + axis) * TABLE
    scale = length.to(tl.float64) / size.to(tl.float64)
    stretch = tl.maximum(scale, 1.0)
    shrink = 1.0 / stretch
    centre = ((corner + first + place).to(tl.float64) + 0.5) * scale
    low = tl.maximum((centre - SUPPORT * stretch + 0.5).to(tl.int32), 0)
    high = tl.minimum((centre + SUPPORT * stretch + 0.5).to(tl.int32), length)
    tl.store(lowest + place, low, mask=inside)
    taps = tap_bound(length, size, SUPPORT)
    total = tl.zeros([LINES], dtype=tl.float64)
    for tap in range(0, taps):
        weight = filter_value(((low + tap).to(tl.float64) - centre + 0.5) * shrink, SUPPORT)
        total += tl.where(low + tap < high, weight, 0.0)
    total = tl.where(inside, total, 1.0)
    for tap in range(0, taps):
        weight = filter_value(((low + tap).to(tl.float64) - centre + 0.5) * shrink, SUPPORT) / total
        weight = tl.where(low + tap < high, weight, 0.0) * UNIT
        rounded = tl.where(weight < 0, weight - 0.5, weight + 0.5).to(tl.int32)
        tl.store(weights + tap * count + place, rounded, mask=inside)


@triton.jit
def taps_of(lowest, weights, region, axis, length, size, count, TABLE, S, SUPPORT: tl.constexpr):
    """What `line_weights` found for one axis of a region.

    Returns the first taps and weights of its lines, their number of taps, and the lines [begin, stop) of the box that
    the window's lines are made of; none where there are no such lines.
    """
    lowest += (2 * region + axis) * S
    taps = tap_bound(length, size, SUPPORT)
    begin = tl.load(lowest, mask=count > 0, other=0)
    last = tl.load(lowest + count - 1, mask=count > 0, other=0)
    stop = tl.where(count > 0, tl.minimum(last + taps, length), 0)
    return lowest, weights + (2 * region + axis) * TABLE, taps, begin, stop


@triton.jit
def vertical_first(height, width, resized_height, resized_width):
    return (height > resized_height) & (height - resized_height > 2 * (width - resized_width))


@triton.jit
def weighted_sum(source, step, stop, lowest, weights, place, count, taps, valid):
    """Weighted sums of the taps of each place, rounded to grey values, int32, where `valid`.

    source: pointers to line 0 of the box, `step` from line to line; lines from `stop` on are not read. place: of the
    output lines, where valid within [0, count).
    """
    inside = (place >= 0) & (place < count)
    low = tl.load(lowest + place, mask=inside, other=0)
    total = tl.full(valid.shape, HALF, dtype=tl.int32)
    for tap in range(0, taps):
        weight = tl.load(weights + tap * count + place, mask=inside, other=0)
        line = low + tap
        pixel = tl.load(source + line.to(tl.int64) * step, mask=valid & (line < stop), other=0)
        total += weight * pixel.to(tl.int32)
    return tl.minimum(tl.maximum(total >> BITS, 0), 255)


@triton.jit
def first_pass(
    images,
    image_index,
    boxes,
    resized,
    offset,
    lowest,
    weights,
    halfway,
    PIXELS,
    W,
    PLANE,
    TABLE,
    S,
    SUPPORT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Resize along the first axis what the second one needs of it.

    halfway: `[N, 3, PLANE]` uint8, in each plane a picture of the box at hand: along the first axis the window's lines
    on the resized box, along the second the needed lines of the box.
    """
    region = tl.program_id(0).to(tl.int64)
    top, height, to_height, _, _, count_y = axis_of(boxes, resized, offset, region, 0, S)
    left, width, to_width, _, _, count_x = axis_of(boxes, resized, offset, region, 1, S)
    lowest_y, weights_y, taps_y, begin_y, stop_y = taps_of(
        lowest, weights, region, 0, height, to_height, count_y, TABLE, S, SUPPORT
    )
    lowest_x, weights_x, taps_x, begin_x, stop_x = taps_of(
        lowest, weights, region, 1, width, to_width, count_x, TABLE, S, SUPPORT
    )
    down = vertical_first(height, width, to_height, to_width)
    rows = tl.where(down, count_y, stop_y - begin_y)
    columns = tl.where(down, stop_x - begin_x, count_x)
    image = tl.load(image_index + region)
    across = tl.cdiv(columns, COLUMNS)
    for tile in range(tl.program_id(1), tl.cdiv(rows, ROWS) * across, tl.num_programs(1)):
        row = (tile // across * ROWS + tl.arange(0, ROWS))[:, None]
        column = (tile % across * COLUMNS + tl.arange(0, COLUMNS))[None, :]
        inside = (row < rows) & (column < columns)
        for channel in tl.static_range(3):
            source = images + (3 * image + channel) * PIXELS + top * W + left
            if down:
                columns_at = source + begin_x + column
                value = weighted_sum(columns_at, W, stop_y, lowest_y, weights_y, row, count_y, taps_y, inside)
            else:
                rows_at = source + (begin_y + row).to(tl.int64) * W
                value = weighted_sum(rows_at, 1, stop_x, lowest_x, weights_x, column, count_x, taps_x, inside)
            target = halfway + (3 * region + channel) * PLANE + row * columns + column
            tl.store(target, value.to(tl.uint8), mask=inside)


@triton.jit
def second_pass(
    halfway,
    boxes,
    resized,
    offset,
    lowest,
    weights,
    region_map,
    image_index,
    spans,
    crops,
    PIXELS,
    W,
    PLANE,
    TABLE,
    S,
    N_STRIDE,
    C_STRIDE,
    Y_STRIDE,
    X_STRIDE,
    FILL: tl.constexpr,
    COLOUR: tl.constexpr,
    MEAN: tl.constexpr,
    STD: tl.constexpr,
    SUPPORT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Resize along the second axis, then fill, mask, normalise and round to the type of `crops`.

    COLOUR: of the mask, or None without one, as MEAN and STD without normalisation.
    """
    region = tl.program_id(0).to(tl.int64)
    top, height, to_height, corner_y, first_y, count_y = axis_of(boxes, resized, offset, region, 0, S)
    left, width, to_width, corner_x, first_x, count_x = axis_of(boxes, resized, offset, region, 1, S)
    lowest_y, weights_y, taps_y, begin_y, stop_y = taps_of(
        lowest, weights, region, 0, height, to_height, count_y, TABLE, S, SUPPORT
    )
    lowest_x, weights_x, taps_x, begin_x, stop_x = taps_of(
        lowest, weights, region, 1, width, to_width, count_x, TABLE, S, SUPPORT
    )
    down = vertical_first(height, width, to_height, to_width)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    place_y, place_x = row - first_y, column - first_x
    inside = (place_y >= 0) & (place_y < count_y) & (place_x >= 0) & (place_x < count_x)
    if COLOUR is not None:
        y = top + (2 * (corner_y + row) + 1).to(tl.int64) * height // (2 * to_height)
        x = left + (2 * (corner_x + column) + 1).to(tl.int64) * width // (2 * to_width)
        region_map += tl.load(image_index + region) * PIXELS
        number = tl.load(region_map + y * W + x, mask=inside, other=0)
        own = (number >= tl.load(spans + 2 * region)) & (number < tl.load(spans + 2 * region + 1)) & inside
    for channel in tl.static_range(3):
        source = halfway + (3 * region + channel) * PLANE
        if down:
            rows_at = source + place_y * (stop_x - begin_x) - begin_x
            value = weighted_sum(rows_at, 1, stop_x, lowest_x, weights_x, place_x, count_x, taps_x, inside)
        else:
            columns_at = source + place_x - begin_y * count_x
            value = weighted_sum(columns_at, count_x, stop_y, lowest_y, weights_y, place_y, count_y, taps_y, inside)
        shown = tl.where(inside, value.to(tl.float32), FILL)
        if COLOUR is not None:
            shown = tl.where(own, shown, COLOUR[channel])
        if MEAN is not None:
            shown = divide(divide(shown, 255.0) - MEAN[channel], STD[channel])
        target = crops + region * N_STRIDE + channel * C_STRIDE + row * Y_STRIDE + column * X_STRIDE
        tl.store(target, shown.to(crops.dtype.element_ty), mask=(row < S) & (column < S))


def crop_resize(images: Tensor, windows: Windows, interpolation: str, finish: Finish) -> Tensor:
    image_index, boxes, resized, offset = (tensor.contiguous() for tensor in windows[:4])
    count, side, device = len(boxes), windows.side, images.device
    height, width = images.shape[2:]
    support = SUPPORT[interpolation]
    table = 2 * support * max(height, width) + (2 * support + 1) * side  # taps of all lines of a window, at most
    plane = max(height, width) * side
    crops = torch.empty(count, 3, side, side, dtype=finish.dtype, device=device, memory_format=finish.memory_format)
    if not crops.numel():
        return crops
    lowest = torch.empty(count, 2, side, dtype=torch.int32, device=device)
    weights = torch.empty(count, 2, table, dtype=torch.int32, device=device)
    halfway = torch.empty(count, 3, plane, dtype=torch.uint8, device=device)
    line_weights[(count, 2, triton.cdiv(side, WEIGHTS_TUNING["LINES"]))](
        boxes, resized, offset, lowest, weights, table, side, SUPPORT=support, **WEIGHTS_TUNING
    )
    across = triton.cdiv(side, PASS_TUNING["COLUMNS"])
    tiles = triton.cdiv(max(height, width), PASS_TUNING["ROWS"]) * across
    first_pass[(count, min(tiles, FIRST_PASS_PROGRAMS))](
        images.contiguous(),
        image_index,
        boxes,
        resized,
        offset,
        lowest,
        weights,
        halfway,
        height * width,
        width,
        plane,
        table,
        side,
        SUPPORT=support,
        **PASS_TUNING,
    )
    region_map, spans, colour = finish.mask or (None, None, None)
    mean, std = finish.normalisation or (None, None)
    second_pass[(count, triton.cdiv(side, PASS_TUNING["ROWS"]), across)](
        halfway,
        boxes,
        resized,
        offset,
        lowest,
        weights,
        region_map if region_map is None else region_map.contiguous(),
        image_index,
        spans if spans is None else spans.contiguous(),
        crops,
        height * width,
        width,
        plane,
        table,
        side,
        *crops.stride(),
        FILL=float(finish.fill),
        COLOUR=_constants(colour),
        MEAN=_constants(mean),
        STD=_constants(std),
        SUPPORT=support,
        **PASS_TUNING,
    )
    return crops


def _constants(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))
