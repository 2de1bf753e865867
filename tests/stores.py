"""Random records of labelled images, and stores made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oracles import encode_masks
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.store.schema import Failure, LabelledBatch, regions_table
from ovsr_gpu.store.writer import StoreWriter


def make_record(name: str, height: int, width: int, classes: int, seed: int = 0) -> LabelledImage:
    """An image whose regions are the cells of a random partition, every property counted by plain loops."""
    random = np.random.default_rng(seed)
    seeds = random.random((6, 2)) * (height, width)
    region_map = np.zeros((height, width), np.int32)
    numbers: dict[int, int] = {}
    cells: list[list[tuple[int, int]]] = []
    for y in range(height):
        for x in range(width):
            nearest = min(range(6), key=lambda s: (seeds[s][0] - y) ** 2 + (seeds[s][1] - x) ** 2)
            number = numbers.setdefault(nearest, len(numbers))
            cells += [[]] * (number == len(cells))
            cells[number] = [*cells[number], (y, x)]
            region_map[y, x] = number
    probabilities = random.dirichlet(np.ones(classes + 1), len(cells)).astype(np.float32)
    class_index = probabilities.argmax(1)
    rows_and_columns = [tuple(zip(*cell, strict=True)) for cell in cells]
    boxes = [(min(xs), min(ys), max(xs) + 1, max(ys) + 1) for ys, xs in rows_and_columns]
    return LabelledImage(
        source=ImageSource(Path("in") / f"{name}.jpg", name),
        pixels=random.integers(0, 256, (height, width, 3), dtype=np.uint8),
        class_map=class_index[region_map].astype(np.int32),
        region_map=region_map,
        boxes=np.array(boxes),
        areas=np.array([len(cell) for cell in cells]),
        class_index=class_index,
        scores=probabilities.max(1),
        probabilities=probabilities,
        embeddings=random.normal(size=(len(cells), 4)).astype(np.float32),
        run_lengths=encode_masks(region_map),
    )


def batch_of(*items: LabelledImage | Failure) -> LabelledBatch:
    """One batch of these images."""
    records = [item for item in items if isinstance(item, LabelledImage)]
    failures = [item for item in items if isinstance(item, Failure)]
    return LabelledBatch(regions_table(records), failures, len(records), {}, 0)


def store_of(out: Path, *items: LabelledImage | Failure) -> Store:
    """A store with these images, each in its own batch."""
    writer = StoreWriter(out)
    for item in items:
        writer.add(batch_of(item))
    writer.close()
    return Store(out)
