"""Fixtures of networks (with random weights, or the real ones in OVSR_TEST_ASSETS), and the skip of GPU tests.

Nothing here imports the packages of the networks before a test needs one, because the kernel tests run without them.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovsr_gpu import Config, Segmenter
    from ovsr_gpu.store.record import LabelledImage

# A bare GPU node may lack the reference libraries of these tests.
collect_ignore = [] if find_spec("sklearn") and find_spec("hypothesis") else ["cluster"]

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # must be set before triton is imported

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that are marked `gpu` where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def separate_text_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep the text-embedding cache of the tests separate from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch-home")))
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """Return the folder with real weights and photographs."""
    folder = os.environ.get("OVSR_TEST_ASSETS")
    if not folder:
        pytest.skip("OVSR_TEST_ASSETS is not set to a folder with real weights and photographs")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a small ViT CLIP with random weights, as a name that `load_clip` accepts."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny-clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(open_clip.CLIP(**TINY_CLIP).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def random_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of EfficientNet-B0 with random weights."""
    models = pytest.importorskip("torchvision.models")
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("backbone") / "efficientnet_b0.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(models.efficientnet_b0().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def make_segmenter(tiny_clip: str, random_backbone: Path):
    """Return a function that makes a Segmenter of the random networks with a config."""
    from ovsr_gpu import Segmenter

    def make(config: Config | None = None) -> Segmenter:
        return Segmenter.from_pretrained(config, backbone_weights=random_backbone, clip=tiny_clip, device="cpu")

    return make


@pytest.fixture
def record() -> Callable[..., LabelledImage]:
    """A function that makes the record of a random labelled image, see `stores.make_record`."""
    from stores import make_record

    return make_record
