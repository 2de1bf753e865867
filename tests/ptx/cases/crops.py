"""Crops that are resized, masked and normalized."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ovsr_gpu.kernels.crop_resize import Normalisation, RegionMask, crop_resize
from ptx.runner import Case, equal

HEIGHT, WIDTH = 40, 70
TALL_BOX = (30, 0, 34, 40)  # is resized vertically first
BOXES = [(5, 5, 6, 6), (69, 0, 70, 40), (0, 10, 70, 11), (0, 0, 70, 40), TALL_BOX, (10, 10, 20, 18), (3, 2, 60, 35)]
WINDOWS = {  # side, resized, offset
    "whole": (12, (12, 12), (0, 0)),
    "grown, of which a part": (12, (45, 90), (11, 60)),
    "padded": (12, (7, 5), (-2, -4)),
    "padded above, cut at the left": (12, (9, 30), (-5, 8)),
    "beside the box": (12, (8, 8), (0, 8)),
    "one line": (12, (1, 1), (0, -11)),
    "one pixel": (1, (3, 3), (1, 1)),
    "wider than a tile": (70, (70, 70), (0, 0)),
}
NORMALIZED = {
    "normalisation": Normalisation((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
    "memory_format": torch.channels_last,
}


def crop(window: str, *, backend: str, masked: bool = False, **options: Any) -> torch.Tensor:
    """Return the crops of all boxes from two random images; `options` are those of `crop_resize`."""
    side, resized, offset = WINDOWS[window]
    boxes = BOXES[3:5] if window == "wider than a tile" else BOXES
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    region_map = torch.randint(0, 4, (2, HEIGHT, WIDTH), dtype=torch.int32, generator=generator)
    index = torch.arange(len(boxes)) % 2
    if masked:
        first = index // 2 % 4
        spans = torch.stack([first, first + 1 + index], dim=1)  # of one number or two
        options["mask"] = RegionMask(region_map, spans, (122.5, 116, 104.25))
    return crop_resize(
        images,
        index,
        torch.tensor(boxes),
        side,
        resized=torch.tensor([resized] * len(boxes)),
        offset=torch.tensor([offset] * len(boxes)),
        fill=7,
        backend=backend,
        **options,
    )


def crop_own_windows(*, backend: str) -> torch.Tensor:
    """Return crops of which every box has its own window."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (1, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor(BOXES)
    resized = torch.randint(1, 30, (len(boxes), 2), generator=generator)
    offset = torch.randint(-6, 12, (len(boxes), 2), generator=generator)
    index = torch.zeros(len(boxes), dtype=torch.int64)
    return crop_resize(images, index, boxes, 10, resized=resized, offset=offset, backend=backend)


def equal_layout(result: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether tensors are equal, strides included."""
    return result.stride() == expected.stride() and equal(result, expected)


def cases() -> Iterator[Case]:
    """Yield every window, both interpolations, and all that can be done to the crops."""
    numbers = itertools.count()

    def make_case(name: str, window: str, capability: int = 90, **options: Any) -> Case:
        run = partial(crop, window, **options)
        return Case(f"crops {name}", run, equal_layout, next(numbers), capability=capability)

    for interpolation, window in itertools.product(("bicubic", "bilinear"), WINDOWS):
        yield make_case(f"{window} {interpolation}", window, interpolation=interpolation)
    finishes = (("normalized", NORMALIZED), ("plain", {}))
    for window, masked in itertools.product(("whole", "padded above, cut at the left"), (True, False)):
        for name, finish in finishes:
            yield make_case(f"{window} {name}{' masked' if masked else ''}", window, masked=masked, **finish)
    for dtype, (name, finish), capability in itertools.product((torch.float16, torch.bfloat16), finishes, (80, 90)):
        options = {"masked": True, "dtype": dtype, **finish}
        yield make_case(f"{dtype} {name} sm_{capability}", "whole", capability, **options)
    yield Case("crops of their own windows", crop_own_windows, equal_layout, next(numbers))
