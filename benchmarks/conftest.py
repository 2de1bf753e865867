"""Options of the benchmarks, what they share, and the tables at the end.

The clustering benchmark runs without the packages of the networks and pictures, so their fixtures import these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from clustering.bounds import Rates, measured_rates
from clustering.results import Results, describe_machine, report
from ovsr_gpu.models.device import choose_device
from patchwork import patchwork

if TYPE_CHECKING:
    from ovsr_gpu.models.clip import ClipModel

RANDOM_CLIP = "ViT-B-32"
PICTURE_SIZE = (480, 640)
Ratios = dict[tuple[str, int], dict[str, float]]
"""Median seconds of each provider, by stage and batch size."""
RATIOS = pytest.StashKey[Ratios]()
RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ovsr-gpu benchmarks")
    group.addoption("--device", default="auto", help="auto, cpu, cuda, mps")
    group.addoption("--backbone-weights", help="torchvision tag or checkpoint of EfficientNet-B0; else see the README")
    group.addoption("--clip", help="open_clip model or local-dir:DIR; else see the README")
    group.addoption("--clip-weights", help="pretrained tag or checkpoint of that model; random weights if left out")
    group.addoption("--pictures", type=Path, help="folder of .jpg and .png pictures; else 640x480 ones are made")
    group.addoption("--full", action="store_true", help="clustering: batches of 256, and all combinations on a GPU")
    group.addoption("--results", type=Path, help="clustering: JSON file for the figures")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = {}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[RATIOS]:
        write_ratios(terminalreporter, config.stash[RATIOS])
    if (results := config.stash.get(RESULTS, None)) and results.rows:
        terminalreporter.section("clustering")
        terminalreporter.write_line(report(results.rows))


def write_ratios(terminalreporter: pytest.TerminalReporter, ratios: Ratios) -> None:
    terminalreporter.section("median milliseconds a picture, and how many times as fast as the reference")
    terminalreporter.line(f"{'':20}{'batch':>6}{'ours':>10}{'reference':>11}{'ratio':>8}")
    for (stage, batch), medians in ratios.items():
        ours = medians.get("ours", float("nan")) / batch
        line = f"{stage:20}{batch:6}{1e3 * ours:10.2f}"
        if "reference" in medians:
            reference = medians["reference"] / batch
            line += f"{1e3 * reference:11.2f}{reference / ours:8.2f}"
        terminalreporter.line(line)
        if stage == "end to end" and "reference" in medians:
            terminalreporter.line(f"{'  pictures/s':20}{batch:6}{1 / ours:10.2f}{1 / reference:11.2f}")
        if stage == "networks alone" and ("end to end", batch) in ratios:
            share = batch * ours / ratios["end to end", batch]["ours"]
            terminalreporter.line(f"{'  of end to end':20}{batch:6}{share:10.0%}")


@pytest.fixture(scope="session")
def ratios(request: pytest.FixtureRequest) -> Ratios:
    return request.config.stash[RATIOS]


@pytest.fixture(scope="session")
def rates(device: torch.device) -> Rates | None:
    return measured_rates(device) if device.type == "cuda" else None


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, device: torch.device, rates: Rates | None) -> Results:
    """Takes the rows of the clustering benchmark."""
    results = Results(request.config.getoption("--results"), describe_machine(device, rates))
    request.config.stash[RESULTS] = results
    return results


@pytest.fixture(scope="session")
def quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """NumPy's BLAS on one thread, which is the fastest for its small matrices, and a text cache of our own."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch-home")))
        yield


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return choose_device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def backbone(request: pytest.FixtureRequest, device: torch.device) -> tuple[nn.Sequential, str]:
    """The blocks of EfficientNet-B0, and what its weights are."""
    from ovsr_gpu.models.backbone import load_backbone

    weights = request.config.getoption("--backbone-weights")
    if weights is None and (assets := os.environ.get("OVSR_TEST_ASSETS")):
        weights = str(Path(assets, "effnet", "efficientnet_b0_finetuned.pth"))
    if weights is not None:
        return load_backbone(weights, device), Path(weights).name
    from torchvision.models import efficientnet_b0

    torch.manual_seed(0)
    return efficientnet_b0().features.eval().requires_grad_(False).to(device), "random"


@pytest.fixture(scope="session")
def clip(request: pytest.FixtureRequest, device: torch.device) -> tuple[ClipModel, str]:
    """CLIP, and what it and its weights are."""
    from ovsr_gpu.models.clip import ClipModel, load_clip

    name, weights = (request.config.getoption(option) for option in ("--clip", "--clip-weights"))
    if name is None and (assets := os.environ.get("OVSR_TEST_ASSETS")):
        name = f"local-dir:{Path(assets, 'clip', 'effb0_msrc')}"
    if name is not None and (weights is not None or name.startswith("local-dir:")):
        return load_clip(name, weights, device), f"{Path(name).name} {weights or ''}".rstrip()
    import open_clip

    name = name or RANDOM_CLIP
    torch.manual_seed(0)
    module, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
    return ClipModel(name, module, tokenizer, device, {}), f"{name} random"


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """Decoded pictures `[H, W, 3]` uint8: those of the folder, or sixteen that are made."""
    from PIL import Image

    folder = request.config.getoption("--pictures")
    if folder is None:
        return [patchwork(*PICTURE_SIZE, 4, np.random.default_rng(seed)) for seed in range(16)]
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not paths:
        raise pytest.UsageError(f"--pictures {folder} holds no .jpg or .png file")
    return [np.array(Image.open(path).convert("RGB")) for path in paths]
