"""Run every Triton kernel once and compare it with its CPU path: `pytest benchmarks/smoke_kernels.py --device cuda`.

A row contains whether the kernel compiled, ran and agreed, and the duration of the first and the second call. With
`--device cpu` and TRITON_INTERPRET=1 the kernels run in Triton's interpreter, on small sizes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from clustering.cases import Case
from clustering.points import made_points
from ovsr_gpu.kernels.components import absorb_small, connected_components
from ovsr_gpu.kernels.crop_resize import crop_resize
from ovsr_gpu.kernels.linkage import (
    FULL_GRAPH_METHODS,
    PIXEL_GRAPH_METHODS,
    distance_linkage,
    edge_linkage,
    full_graph_linkage,
    grid_edges,
    pixel_graph_linkage,
)
from ovsr_gpu.kernels.spectral import leading_directions, leading_svd
from ovsr_gpu.runtime.device import choose_device
from report_rows import LOST_DEVICE

DTYPES = {"cuda": (torch.float32, torch.float64), "cpu": (torch.float32,)}  # the interpreter is slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dtype" in metafunc.fixturenames:
        device = choose_device(metafunc.config.getoption("--device"))
        metafunc.parametrize("dtype", DTYPES[device.type], ids=str)


class Size(NamedTuple):
    side: int
    rank: int
    images: int


@pytest.fixture
def size(device) -> Size:
    return Size(28, 16, 8) if device.type == "cuda" else Size(3, 2, 1)


@pytest.fixture
def points(size) -> Tensor:
    """Return smooth data `[B, P, R]` float32."""
    return made_points(Case("full", "triton", "float32", side=size.side, batch=size.images, rank=size.rank))


@pytest.fixture
def compare(device, record_property) -> Callable[..., None]:
    """Return a function that calls a kernel on the device and once on the CPU, and stores the row of the comparison."""

    def run(call: Callable[..., Tensor | Sequence[Tensor]], *arguments: Tensor, tolerance: float = 0.0) -> None:
        on_device = [argument.to(device) for argument in arguments]
        row: dict[str, object] = {"compiled": False, "ran": False, "agrees": False}
        record_property("row", row)
        try:
            result, row["first_call_s"] = time_call(lambda: call(*on_device, backend="triton"), device)
        except Exception as error:
            # An error of the device comes from a compiled kernel; other errors can come before or from compilation.
            row["compiled"] = any(text in str(error) for text in LOST_DEVICE)
            raise
        row.update(compiled=True, ran=True)
        if device.type == "cuda":  # in the interpreter, a second call is not faster
            row["second_call_s"] = time_call(lambda: call(*on_device, backend="triton"), device)[1]
        expected = call(*arguments, backend="torch")
        pairs = list(zip(as_list(result), as_list(expected), strict=True))
        row["max_difference"] = max(float((actual.double() - target.double()).abs().max()) for actual, target in pairs)
        for actual, target in pairs:
            torch.testing.assert_close(
                actual, target, rtol=tolerance, atol=tolerance * float(target.double().abs().max())
            )
        row["agrees"] = True

    return run


def time_call(
    call: Callable[[], Tensor | Sequence[Tensor]], device: torch.device
) -> tuple[Tensor | Sequence[Tensor], float]:
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, round(time.perf_counter() - start, 5)


def as_list(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensor.cpu() for tensor in ([result] if isinstance(result, Tensor) else result)]


@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
def test_full_graph(method, dtype, points, compare):
    distances = torch.cdist(points.to(dtype), points.to(dtype), compute_mode="donot_use_mm_for_euclid_dist")
    compare(lambda distances, backend: distance_linkage(distances, method, backend=backend), distances)


@pytest.mark.parametrize("method", ["ward", "average"])
def test_distances_of_points(method, dtype, points, compare):
    def heights(points: Tensor, backend: str) -> Tensor:
        return full_graph_linkage(points, method, backend=backend).heights

    compare(heights, points.to(dtype), tolerance=1e-5)


@pytest.mark.parametrize("method", PIXEL_GRAPH_METHODS)
def test_pixel_graph(method, dtype, size, points, compare):
    edges, points = grid_edges(size.side, size.side, "4", torch.device("cpu")), points.to(dtype)
    if method == "ward":
        compare(lambda points, edges, backend: pixel_graph_linkage(points, edges, backend=backend), points, edges)
    else:
        weights = (points[:, edges[:, 0]] - points[:, edges[:, 1]]).square().sum(2)
        compare(
            lambda weights, edges, backend: edge_linkage(weights, edges, size.side**2, method, backend=backend),
            weights,
            edges,
        )


def test_components(size, compare):
    generator = torch.Generator().manual_seed(0)
    compare(connected_components, torch.randint(0, 3, (size.images, size.side, size.side), generator=generator))


def test_absorption(size, compare):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (size.images, size.side, size.side), generator=generator)
    components = connected_components(labels, backend="torch")
    compare(lambda components, backend: absorb_small(components, 9, backend=backend), components)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops(interpolation, device, compare):
    height, width, side = (480, 640, 224) if device.type == "cuda" else (12, 16, 4)
    images = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    boxes = torch.tensor([[0, 0, width, height], [3, 5, width // 2, height - 1], [1, 1, 6, 7]])
    image_index, resized, offset = torch.tensor([0, 1, 0]), torch.full((3, 2), side), torch.zeros(3, 2).long()

    def crops(images: Tensor, index: Tensor, boxes: Tensor, resized: Tensor, offset: Tensor, backend: str) -> Tensor:
        return crop_resize(
            images, index, boxes, side, resized=resized, offset=offset, interpolation=interpolation, backend=backend
        )

    compare(crops, images, image_index, boxes, resized, offset)


def test_leading_svd(dtype, size, compare):
    """Use the shape of the method on a GPU: as many channels as the two levels of EfficientNet-B0 have."""
    channels = 152 if size.rank == 16 else 4
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(size.images, size.side**2, channels, generator=generator, dtype=dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    compare(lambda matrix, backend: leading_svd(matrix, size.rank, backend=backend), matrix, tolerance=tolerance)


def test_leading_directions(size, compare):
    """Compare the projectors on the directions, because the signs are arbitrary."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4 * size.side, 8 * size.rank, generator=generator)
    group = torch.arange(len(rows)) % size.images

    def projectors(rows: Tensor, group: Tensor, backend: str) -> Tensor:
        directions = leading_directions(rows, group, size.images, 4, backend=backend)
        return directions.mT @ directions

    compare(projectors, rows, group, tolerance=1e-3)
