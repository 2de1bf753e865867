"""Each output of a run alone: how many images a second it takes, `pytest benchmarks/bench_outputs.py`."""

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
from ovsr_gpu.run_lengths import Masks
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.record import LabelledImage, Writer
from ovsr_gpu.store.store import LabelledBatch, Store, StoreWriter, table_of
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
    """Images on the disk, all that is known of them on the host, their maps on the device, and their store."""

    folder: Path
    records: list[LabelledImage]
    region_maps: list[Tensor]
    regions: Regions
    store: Store

    def batch(self) -> LabelledBatch:
        return LabelledBatch(table_of(self.records), [], len(self.records), {}, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Run:
    folder = tmp_path_factory.mktemp("outputs")
    random = np.random.default_rng(0)
    # Boundaries as crooked as those of real regions.
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wave = (rows + 20 * np.sin(columns / 15)).clip(0, HEIGHT - 1)
    tiles = (wave * 2 // HEIGHT * (TILES // 2) + columns * (TILES // 2) // WIDTH).astype(np.int32)
    region_maps = [torch.from_numpy(tiles).to(device)] * IMAGES
    areas = np.bincount(tiles.ravel())
    owner = torch.arange(IMAGES, device=device).repeat_interleave(TILES)
    boxes = np.array([_box(tiles == tile) for tile in range(TILES)])
    flat_areas = torch.from_numpy(np.tile(areas, IMAGES)).to(device)
    regions = Regions(owner, torch.from_numpy(np.tile(boxes, (IMAGES, 1))).to(device), flat_areas)
    run_lengths = Masks(region_maps, regions).encode().read()
    records = []
    for number in range(IMAGES):
        path = folder / "in" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        rgb = patchwork(HEIGHT, WIDTH, TILES, random)
        Image.fromarray(rgb).save(path, quality=90)
        probabilities = random.dirichlet(np.ones(len(VOCABULARY) + 1), TILES).astype(np.float32)
        classes = probabilities.argmax(1)
        embeddings = random.normal(size=(TILES, EMBEDDING)).astype(np.float32)
        own = run_lengths[number * TILES : (number + 1) * TILES]
        records.append(
            LabelledImage(
                *(ImageSource(path, f"{number}"), rgb, classes[tiles].astype(np.int32), tiles, boxes, areas, classes),
                *(probabilities.max(1), probabilities, embeddings, own),
            )
        )
    writer = StoreWriter(folder)
    writer.add(LabelledBatch(table_of(records), [], IMAGES, {}, 0))
    writer.close()
    return Run(folder, records, region_maps, regions, Store(folder))


def _box(inside: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = inside.nonzero()
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def measure(call: Callable[[], Any], row: dict[str, Any], results: Results) -> None:
    """The fastest of several calls for all images."""
    call()
    seconds, start = [], time.perf_counter()
    while not seconds or time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - before)
    results.add(row | {"images_per_second": round(IMAGES / min(seconds), 1), "rounds": len(seconds)})


@pytest.mark.parametrize("output", FILES)
def test_file_a_image(output: str, run: Run, output_results: Results) -> None:
    maker = OUTPUTS[output].writer
    assert maker is not None
    writer: Writer = maker(run.folder / "files", VOCABULARY)
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
    places = iter(range(1000))
    measure(
        lambda: write(run.store.images, VOCABULARY.names, run.folder / "end" / str(next(places))),
        {"output": output, "when": "at the end, from the store"},
        output_results,
    )


@pytest.mark.parametrize("format", sorted(FORMATS.keys() - OUTPUTS.keys()))
def test_export(format: str, run: Run, output_results: Results) -> None:
    places = iter(range(1000))
    measure(
        lambda: FORMATS[format](run.store.images, VOCABULARY.names, run.folder / "export" / str(next(places))),
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
        Masks(run.region_maps, run.regions).encode().read()

    call = on_device if provider == "device" else by_pycocotools
    measure(call, {"output": f"run lengths, {provider}", "when": "during the run"}, output_results)
