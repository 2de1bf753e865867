"""EfficientNet-B0: loading from every kind of checkpoint, and errors for unsuitable ones."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import WeightsEnum, efficientnet_b0, efficientnet_b1, resnet18

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.backbone import load_backbone
from ovsr_gpu.models.checkpoints import read_state_dict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = efficientnet_b0().train()
        network.features(torch.randn(4, 3, 64, 64))  # running statistics that differ from their initial values
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias)
        return network.eval()


def folded_stem(model: torch.nn.Module) -> torch.Tensor:
    """Return the weights of the first convolution with the following batch normalization folded in."""
    convolution, batch_norm, _ = model.features[0]
    scale = batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()
    return (convolution.weight * scale[:, None, None, None]).detach()


@pytest.mark.parametrize("state_dict_key", [None, "state_dict", "model_state_dict"])
def test_loads_the_features_of_any_checkpoint(tmp_path: Path, model, state_dict_key):
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("classifier.")}
    state["classifier.1.weight"] = torch.zeros(7, 1280)
    torch.save(state if state_dict_key is None else {state_dict_key: state}, tmp_path / "weights.pth")
    features = load_backbone(tmp_path / "weights.pth", CPU)

    assert not features.training
    assert not any(parameter.requires_grad for parameter in features.parameters())
    pixels = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in features.modules())
    torch.testing.assert_close(features[0][0].weight, folded_stem(model))
    with torch.no_grad():
        # The memory format changes the order of the sums; later blocks of a random network fade into rounding.
        torch.testing.assert_close(features[:4](pixels), model.features[:4](pixels), rtol=1e-3, atol=1e-4)
        assert features[:4](pixels).shape == (2, 40, 8, 6)
        assert features[:6](pixels).shape == (2, 112, 4, 3)


def test_half_precision_file_becomes_float32(tmp_path: Path, model):
    half = {k: v.half() for k, v in model.state_dict().items() if k.startswith("features.") and v.is_floating_point()}
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    save_file({**half, **counters}, tmp_path / "weights.safetensors")
    features = load_backbone(str(tmp_path / "weights.safetensors"), CPU)
    assert {parameter.dtype for parameter in features.parameters()} == {torch.float32}
    torch.testing.assert_close(features[0][0].weight, folded_stem(model), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("other", "key"), [(efficientnet_b1, r"features\.1\.1\.block\.0\.0\.weight"), (resnet18, r"features\.0\.0\.weight")]
)
def test_other_architecture_names_the_keys(tmp_path: Path, other, key):
    torch.save(other().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=rf"weights\.pth does not fit EfficientNet-B0.*{key}") as caught:
        load_backbone(tmp_path / "weights.pth", CPU)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_other_shape_names_the_key(tmp_path: Path, model):
    state = {**model.state_dict(), "features.0.0.weight": torch.zeros(32, 1, 3, 3)}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"size mismatch for features\.0\.0\.weight"):
        load_backbone(tmp_path / "weights.pth", CPU)


@pytest.mark.parametrize("weights", ["IMAGENET1K_V7", "nowhere/weights.pth", Path("nowhere/weights.pth")])
def test_neither_file_nor_tag(weights):
    with pytest.raises(ModelError, match=r"neither a file nor a torchvision tag.*IMAGENET1K_V1.*--backbone-weights"):
        load_backbone(weights, CPU)


@pytest.mark.parametrize("tag", ["IMAGENET1K_V1", "DEFAULT"])
def test_tag_is_read_from_the_torch_hub_cache(tmp_path: Path, monkeypatch, model, tag):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # a cached file must not need the network
    path = tmp_path / "hub" / "checkpoints" / "efficientnet_b0_rwightman-7f5810bc.pth"
    path.parent.mkdir(parents=True)
    torch.save(model.state_dict(), path)
    torch.testing.assert_close(load_backbone(tag, CPU)[0][0].weight, folded_stem(model))


@pytest.mark.parametrize("is_intact", [True, False])
def test_tag_is_downloaded_and_its_hash_checked(tmp_path: Path, monkeypatch, model, is_intact):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    name = f"b0-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / name).write_bytes(content if is_intact else content[:-1] + b"?")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(WeightsEnum, "url", f"http://127.0.0.1:{server.server_port}/{name}")
        if is_intact:
            torch.testing.assert_close(load_backbone("DEFAULT", CPU)[0][0].weight, folded_stem(model))
        else:
            with pytest.raises(ModelError, match=rf"{name} .*invalid hash value.*backbone_weights=PATH"):
                load_backbone("DEFAULT", CPU)
        server.shutdown()
    assert (tmp_path / "home" / "hub" / "checkpoints" / name).is_file() == is_intact


OFFLINE = """
import time, torch
from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.backbone import load_backbone
import torchvision.models  # measure the answer without the imports
start = time.perf_counter()
try:
    load_backbone("IMAGENET1K_V1", torch.device("cpu"))
except ModelError as error:
    print(time.perf_counter() - start, error, sep="|")
"""


def test_no_network_and_no_cache(tmp_path: Path):
    dead = "http://127.0.0.1:9"
    environment = {**os.environ, "TORCH_HOME": str(tmp_path), "https_proxy": dead, "http_proxy": dead, "no_proxy": ""}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    seconds, message = done.stdout.strip().split("|")
    assert float(seconds) < 5
    for part in (
        "efficientnet_b0_rwightman-7f5810bc.pth",
        "https://download.pytorch.org/models/",
        str(tmp_path / "hub" / "checkpoints"),
        "backbone_weights=PATH",
        "--backbone-weights PATH",
    ):
        assert part in message


def test_real_checkpoint():
    if "OVSR_TEST_ASSETS" not in os.environ:
        pytest.skip("OVSR_TEST_ASSETS is not set")
    path = Path(os.environ["OVSR_TEST_ASSETS"], "effnet", "efficientnet_b0_finetuned.pth")
    features = load_backbone(path, CPU)
    assert features[:4](torch.zeros(1, 3, 32, 32)).shape == (1, 40, 4, 4)
    state = read_state_dict(path)
    scale = state["features.0.1.weight"] / (state["features.0.1.running_var"] + 1e-5).sqrt()
    torch.testing.assert_close(
        features[0][0].bias, state["features.0.1.bias"] - scale * state["features.0.1.running_mean"]
    )
