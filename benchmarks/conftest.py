"""Options of the benchmarks, shared fixtures, and the tables at the end of a run.

The clustering benchmark runs without the packages of the networks and of images, so only their fixtures import them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import clustering.results
import pipeline.results
from clustering.bounds import Rates, measured_rates
from clustering.results import Results, describe, describe_machine
from ovsr_gpu.config import ModelConfig
from ovsr_gpu.models.network_batch import clip_dtype
from ovsr_gpu.runtime.device import choose_device
from patchwork import patchwork
from pipeline.ratios import Ratios, ratio_lines

if TYPE_CHECKING:
    from ovsr_gpu.models.clip import ClipModel

RANDOM_CLIP = "ViT-B-32"
IMAGE_SIZE = (480, 640)
RATIOS = pytest.StashKey[Ratios]()
RESULTS = pytest.StashKey[dict[str, tuple[Results, Callable[[Results], str]]]]()
"""The rows of each benchmark, and the function that makes its tables."""


ROW_FIXTURES = {"results", "growth_results", "stage_results", "headline_results", "output_results"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ovsr-gpu benchmarks")
    group.addoption("--device", default="auto", help="auto, cpu, cuda or mps")
    group.addoption(
        "--backbone-weights", help="torchvision tag or checkpoint of EfficientNet-B0; default: see the README"
    )
    group.addoption("--clip", help="open_clip model or local-dir:DIR; default: see the README")
    group.addoption("--clip-weights", help="pretrained tag or checkpoint of that model; default: random weights")
    group.addoption("--images", type=Path, help="folder of .jpg and .png images; default: generated 640x480 images")
    group.addoption("--full", action="store_true", help="larger batches, shapes and combinations; see the README")
    group.addoption("--tiny", action="store_true", help="only the smallest cases, to test the benchmarks themselves")
    group.addoption("--results", type=Path, help="JSON file for the rows of one benchmark")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS], config.stash[RESULTS] = {}, {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    used = {name for item in items if isinstance(item, pytest.Function) for name in item.fixturenames}
    if config.getoption("--results") and len(ROW_FIXTURES & used) > 1:
        raise pytest.UsageError("--results accepts the rows of one benchmark; run the benchmarks separately")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[RATIOS]:
        terminalreporter.section("milliseconds per image, and the speedup over the reference")
        for line in ratio_lines(config.stash[RATIOS]):
            terminalreporter.line(line)
    for title, (results, report) in config.stash[RESULTS].items():
        if results.rows:
            terminalreporter.section(title)
            terminalreporter.write_line(report(results))


def start_results(
    config: pytest.Config, title: str, machine: dict[str, Any], report: Callable[[Results], str]
) -> Results:
    """Return the rows for the summary at the end and for the file of --results."""
    results = Results(config.getoption("--results"), machine)
    config.stash[RESULTS][title] = results, report
    return results


@pytest.fixture(scope="session")
def ratios(request: pytest.FixtureRequest) -> Ratios:
    return request.config.stash[RATIOS]


@pytest.fixture(scope="session")
def rates(device: torch.device) -> Rates | None:
    return measured_rates(device) if device.type == "cuda" else None


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, device: torch.device, rates: Rates | None) -> Results:
    """Return the rows of the clustering benchmark."""
    machine = describe_machine(device, clustering.results.PACKAGES) | {"rates": rates and rates._asdict()}
    return start_results(request.config, "clustering", machine, lambda results: clustering.results.report(results.rows))


@pytest.fixture(scope="session")
def growth_results(request: pytest.FixtureRequest, device: torch.device) -> Results:
    """Return the rows of the growth benchmark."""
    machine = describe_machine(device, pipeline.results.PACKAGES) | {"description": pipeline.results.DESCRIPTION}
    return start_results(request.config, "growth of the whole method", machine, pipeline.results.report)


@pytest.fixture(scope="session")
def stage_results(request: pytest.FixtureRequest, device: torch.device) -> Results:
    """Return the rows of the stage benchmark; its table is that of the ratios."""
    machine = describe_machine(device, pipeline.results.PACKAGES) | {"blas_threads": 1}
    return Results(request.config.getoption("--results"), machine)


@pytest.fixture(scope="session")
def headline_results(request: pytest.FixtureRequest, device: torch.device) -> Results:
    """Return the rows of the headline benchmark."""
    machine = describe_machine(device, pipeline.results.PACKAGES)
    return start_results(request.config, "headline", machine, headline_report)


def headline_report(results: Results) -> str:
    lines = [", ".join(f"{key} {value}" for key, value in row.items() if value is not None) for row in results.rows]
    return "\n".join([describe(results.machine), "", *lines])


@pytest.fixture(scope="session")
def output_results(request: pytest.FixtureRequest, device: torch.device) -> Results:
    """Return the rows of the output benchmark."""
    machine = describe_machine(device, ("torch", "numpy", "pillow", "pyarrow", "pycocotools", "contourpy"))
    return start_results(request.config, "images per second of each output alone", machine, output_report)


def output_report(results: Results) -> str:
    lines = [describe(results.machine), "", "| output | when | images/s |", "|---|---|---|"]
    lines += [f"| {row['output']} | {row['when']} | {row['images_per_second']:,.0f} |" for row in results.rows]
    return "\n".join(lines)


@pytest.fixture
def optional_benchmark(request: pytest.FixtureRequest) -> Any:
    """Return pytest-benchmark's fixture, for its tables and options; None if it is not installed."""
    return request.getfixturevalue("benchmark") if request.config.pluginmanager.hasplugin("benchmark") else None


@pytest.fixture(scope="session")
def separate_text_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the embeddings of class names in a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch-home")))
        yield


@pytest.fixture(scope="session")
def quiet_machine(separate_text_cache: None) -> Iterator[None]:
    """Run NumPy's BLAS on one thread, which is fastest for its small matrices, with a separate text cache."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return choose_device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def backbone(
    request: pytest.FixtureRequest, device: torch.device, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Sequential, str]:
    """Return the blocks of EfficientNet-B0 and a description of its weights."""
    from ovsr_gpu.models.backbone import load_backbone

    weights = request.config.getoption("--backbone-weights")
    if weights is None and (assets := os.environ.get("OVSR_TEST_ASSETS")):
        weights = str(Path(assets, "effnet", "efficientnet_b0_finetuned.pth"))
    if weights is not None:
        return load_backbone(weights, device), Path(weights).name
    from torchvision.models import efficientnet_b0

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("backbone") / "random.pth"
    torch.save(efficientnet_b0().state_dict(), file)  # loading a file, as for real weights, makes the network faster
    return load_backbone(file, device), "random"


@pytest.fixture(scope="session")
def random_clips(device: torch.device) -> Callable[[str], ClipModel]:
    """Return a function that creates the named CLIP with random weights, once per name."""
    from pipeline.networks import random_clip

    return cache(lambda name: random_clip(name, device))


@pytest.fixture(scope="session")
def clip(request: pytest.FixtureRequest, device: torch.device) -> tuple[ClipModel, str]:
    """Return CLIP in the package's precision for the device, and a description of the model and its weights."""
    from ovsr_gpu.models.clip import load_clip
    from pipeline.networks import random_clip

    name, weights = (request.config.getoption(option) for option in ("--clip", "--clip-weights"))
    if name is None and (assets := os.environ.get("OVSR_TEST_ASSETS")):
        name = f"local-dir:{Path(assets, 'clip', 'effb0_msrc')}"
    if name is not None and (weights is not None or name.startswith("local-dir:")):
        model = load_clip(name, weights, device).use_precision(clip_dtype(device, ModelConfig()))
        return model, f"{Path(name).name} {weights or ''}".rstrip()
    name = name or RANDOM_CLIP
    return random_clip(name, device), f"{name} random"


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """Return decoded images `[H, W, 3]` uint8: those of the folder, or 16 generated ones."""
    from PIL import Image

    folder = request.config.getoption("--images")
    if folder is None:
        return [patchwork(*IMAGE_SIZE, 4, np.random.default_rng(seed)) for seed in range(16)]
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not paths:
        raise pytest.UsageError(f"--images {folder} contains no .jpg or .png file")
    return [np.array(Image.open(path).convert("RGB")) for path in paths]
