"""Benchmark of each output of a run alone, in images per second: `pytest benchmarks/bench_outputs.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask
from torch import Tensor

from clustering.results import Results
from ovsr_gpu.export.formats import FORMATS
from ovsr_gpu.export.outputs import OUTPUTS
from ovsr_gpu.results import Regions
from ovsr_gpu.run_lengths import RunLengthEncoder
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import ImageWriter, LabelledImage
from ovsr_gpu.store.schema import LabelledBatch, regions_table
from ovsr_gpu.store.writer import StoreWriter
from ovsr_gpu.vocabulary import Vocabulary
from patchwork import patchwork

IMAGES, HEIGHT, WIDTH, TILES = 64, 480, 640, 10
VOCABULARY = Vocabulary.parse("; ".join(f"class {number}" for number in range(20)))
EMBEDDING = 512
SECONDS = 2.0

FILES = [name for name, output in OUTPUTS.items() if output.writer]
AT_END = [name for name, output in OUTPUTS.items() if output.at_end]


@dataclass(frozen=True)
class Run:
    """Images on disk, their records on the host, their region maps on the device, and their store."""

    folder: Path
    records: list[LabelledImage]
    region_maps: list[Tensor]
    regions: Regions
    store: Store

    def batch(self) -> LabelledBatch:
        return LabelledBatch(regions_table(self.records), [], len(self.records), {}, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Run:
    folder = tmp_path_factory.mktemp("outputs")
    random = np.random.default_rng(0)
    # Wavy boundaries, as irregular as those of real regions.
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wave = (rows + 20 * np.sin(columns / 15)).clip(0, HEIGHT - 1)
    tiles = (wave * 2 // HEIGHT * (TILES // 2) + columns * (TILES // 2) // WIDTH).astype(np.int32)
    region_maps = [torch.from_numpy(tiles).to(device)] * IMAGES
    areas = np.bincount(tiles.ravel())
    image_index = torch.arange(IMAGES, device=device).repeat_interleave(TILES)
    boxes = np.array([_box(tiles == tile) for tile in range(TILES)])
    flat_areas = torch.from_numpy(np.tile(areas, IMAGES)).to(device)
    regions = Regions(image_index, torch.from_numpy(np.tile(boxes, (IMAGES, 1))).to(device), flat_areas)
    run_lengths = RunLengthEncoder(region_maps, regions).encode().read()
    records = []
    for number in range(IMAGES):
        path = folder / "in" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        rgb = patchwork(HEIGHT, WIDTH, TILES, random)
        Image.fromarray(rgb).save(path, quality=90)
        probabilities = random.dirichlet(np.ones(len(VOCABULARY) + 1), TILES).astype(np.float32)
        classes = probabilities.argmax(1)
        embeddings = random.normal(size=(TILES, EMBEDDING)).astype(np.float32)
        image_run_lengths = run_lengths[number * TILES : (number + 1) * TILES]
        records.append(
            LabelledImage(
                *(ImageSource(path, f"{number}"), rgb, classes[tiles].astype(np.int32), tiles, boxes, areas, classes),
                *(probabilities.max(1), probabilities, embeddings, image_run_lengths),
            )
        )
    writer = StoreWriter(folder)
    writer.add(LabelledBatch(regions_table(records), [], IMAGES, {}, 0))
    writer.close()
    return Run(folder, records, region_maps, regions, Store(folder))


def _box(inside: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = inside.nonzero()
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def measure(call: Callable[[], Any], row: dict[str, Any], results: Results) -> None:
    """Add a row with the rate of the fastest of several calls that process all images."""
    call()
    seconds, start = [], time.perf_counter()
    while not seconds or time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - before)
    results.add(row | {"images_per_second": round(IMAGES / min(seconds), 1), "rounds": len(seconds)})


@pytest.mark.parametrize("output", FILES)
def test_file_per_image(output: str, run: Run, output_results: Results) -> None:
    make_writer = OUTPUTS[output].writer
    assert make_writer is not None
    writer: ImageWriter = make_writer(run.folder / "files", VOCABULARY)
    measure(
        lambda: [writer.write(record) for record in run.records],
        {"output": output, "when": "during the run, one thread"},
        output_results,
    )


def test_store(run: Run, output_results: Results) -> None:
    def write() -> None:
        writer = StoreWriter(run.folder / "again")
        writer.add(run.batch())
        writer.close()

    measure(write, {"output": "store", "when": "during the run, one thread"}, output_results)


@pytest.mark.parametrize("output", AT_END)
def test_at_the_end(output: str, run: Run, output_results: Results) -> None:
    write = OUTPUTS[output].at_end
    assert write is not None
    folders = iter(range(1000))
    measure(
        lambda: write(run.store.images, VOCABULARY.names, run.folder / "end" / str(next(folders))),
        {"output": output, "when": "at the end, from the store"},
        output_results,
    )


@pytest.mark.parametrize("format", sorted(FORMATS.keys() - OUTPUTS.keys()))
def test_export(format: str, run: Run, output_results: Results) -> None:
    folders = iter(range(1000))
    measure(
        lambda: FORMATS[format](run.store.images, VOCABULARY.names, run.folder / "export" / str(next(folders))),
        {"output": format, "when": "ovsr export"},
        output_results,
    )


@pytest.mark.parametrize("provider", ["device", "pycocotools"])
def test_run_lengths(provider: str, run: Run, output_results: Results) -> None:
    def by_pycocotools() -> None:
        for record in run.records:
            for region in range(TILES):
                mask.encode(np.asfortranarray(record.region_map == region, dtype=np.uint8))

    def on_device() -> None:
        RunLengthEncoder(run.region_maps, run.regions).encode().read()

    call = on_device if provider == "device" else by_pycocotools
    measure(call, {"output": f"run lengths, {provider}", "when": "during the run"}, output_results)
