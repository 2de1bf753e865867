"""Linkage on both graphs: other GPUs, larger images, all kinds of points, and what the tests do on a GPU alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import torch

import point_sets
from ovsr_gpu.kernels.linkage import distance_linkage, edge_linkage, grid_edges, pixel_graph_linkage
from ptx.cases import components, full_graph, pixel_graph
from ptx.cases.full_graph import DTYPES
from ptx.launch import LaunchOptions
from ptx.runner import Case

CPU = torch.device("cpu")


def _shuffled(seed: int) -> LaunchOptions:
    return LaunchOptions(schedule="warps", seed=seed)


def target_cases() -> Iterator[Case]:
    """Yield the default tuning on other GPUs, and its 16 warps one after another in random order."""
    for capability in (80, 100):
        for method in ("ward", "average", "single"):
            yield full_graph.make_case(
                method, "smooth", 49, torch.float32, "default", capability, capability=capability
            )
            yield pixel_graph.make_case(
                method, "smooth", 6, torch.float64, "default", capability, capability=capability
            )
    for seed, method in enumerate(full_graph.METHODS):
        yield full_graph.make_case(method, "integer", 49, torch.float32, "default", seed, options=_shuffled(seed))
    for seed, method in enumerate(pixel_graph.METHODS):
        options = {"connectivity": "8", "options": _shuffled(seed)}
        yield pixel_graph.make_case(method, "integer", 6, torch.float32, "default", seed, **options)


def large_cases() -> Iterator[Case]:
    """Yield images on which the loops of the default tuning run several times; a minute or two for each."""
    single, double = DTYPES
    yield pixel_graph.make_case("ward", "smooth", 17, single, "default", 0)
    yield full_graph.make_case("ward", "smooth", 784, single, "default", 0, images=1)
    yield from components.large_cases()
    yield pixel_graph.make_case("average", "smooth", 17, double, "default", 1, images=1)
    yield full_graph.make_case("average", "integer", 576, double, "default", 1, images=1)
    yield pixel_graph.make_case("single", "integer", 17, single, "default", 2, images=1, connectivity="8")
    yield pixel_graph.make_case("complete", "integer", 17, single, "default", 3, images=1)
    yield full_graph.make_case("complete", "constant", 576, single, "default", 2, images=1)
    yield full_graph.make_case("single", "normal", 300, single, "small", 2, images=1)
    yield full_graph.make_case("single", "smooth", 1089, single, "default", 2, images=1)


def kind_cases() -> Iterator[Case]:
    """Yield every kind of points, with the warps in random order."""
    numbers = itertools.count()
    for kind in (kind.__name__ for kind in point_sets.ALL):
        for method in full_graph.METHODS:
            number = next(numbers)
            options = {"images": 3, "options": _shuffled(number)}
            yield full_graph.make_case(method, kind, 64, DTYPES[number % 2], "small", number, **options)
        for method in pixel_graph.METHODS:
            number = next(numbers)
            options = {"images": 3, "connectivity": "48"[number % 2], "options": _shuffled(number)}
            yield pixel_graph.make_case(method, kind, 6, DTYPES[number % 2], "small", number, **options)


def gpu_test_cases() -> Iterator[Case]:
    """Yield the inputs that tests/kernels/linkage runs on a GPU alone."""
    numbers = itertools.count()
    for side, kind, dtype in itertools.product((13, 28), point_sets.ALL, DTYPES):
        points = kind(side, 3, seed=1, images=2).to(dtype)
        suffix = f"side {side} {kind.__name__} {dtype}"
        small, common = side == 13, kind.__name__ in ("smooth", "integer")
        if small or common or dtype == torch.float32:
            distances = torch.cdist(points, points)
            for method in full_graph.METHODS:
                run = partial(distance_linkage, distances, method)
                yield Case(name=f"gpu test full {method} {suffix}", run=run, number=next(numbers))
        if small or (common and dtype == torch.float32):
            edges = grid_edges(side, side, "8", CPU)
            weights = pixel_graph.edge_weights(points, edges)
            run = partial(pixel_graph_linkage, points, edges)
            yield Case(name=f"gpu test pixel ward {suffix}", run=run, number=next(numbers))
            for method in ("complete", "average", "single"):
                run = partial(edge_linkage, weights, edges, side * side, method)
                yield Case(name=f"gpu test pixel {method} {suffix}", run=run, number=next(numbers))


def gpu_mask_cases() -> Iterator[Case]:
    """Yield masks, early stops and points that are not finite, on 28 by 28 pixels."""
    side = 28
    mask = full_graph.masks(side * side, 4)
    points, edges = point_sets.normal(side, 3, seed=1, images=4), grid_edges(side, side, "4", CPU)
    points[2, mask[2].nonzero()[0]] = torch.nan
    distances = torch.cdist(points, points)
    options = {"mask": mask, "stop_at": torch.tensor([1, 3, 2, 1])}
    for method in full_graph.METHODS:
        yield Case(name=f"gpu masks full {method}", run=partial(distance_linkage, distances, method, **options))
    doubled, weights = pixel_graph.twice(edges, pixel_graph.edge_weights(points, edges))
    yield Case(name="gpu masks pixel ward", run=partial(pixel_graph_linkage, points, doubled, **options))
    for method in ("complete", "average", "single"):
        run = partial(edge_linkage, weights, doubled, side * side, method, **options)
        yield Case(name=f"gpu masks pixel {method}", run=run)


def strict_cases() -> Iterator[Case]:
    """Yield cases in which only the barriers of the source count, not those of reductions and scans.

    What they find is right as compiled today, but rests on how Triton lowers a reduction.
    """
    options = {"options": LaunchOptions(strict=True)}
    for method in ("ward", "average", "single"):
        yield full_graph.make_case(method, "integer", 49, torch.float32, "small", 0, **options)
        yield full_graph.make_case(method, "normal", 49, torch.float32, "default", 0, **options)
    for method in pixel_graph.METHODS:
        options["connectivity"] = "8"
        yield pixel_graph.make_case(method, "integer", 6, torch.float32, "small", 0, **options)
        yield pixel_graph.make_case(method, "integer", 5, torch.float32, "default", 0, **options)
    yield from components.strict_cases()
