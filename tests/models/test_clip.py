"""CLIP: loading the same network from folders, files and tags, and errors for what cannot be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models import clip as clip_module
from ovsr_gpu.models.clip import load_clip

CPU = torch.device("cpu")
NAME = "ovsr-tiny"
REPOSITORY = "someone/tiny-clip"


def tiny_config(**vision: Any) -> dict[str, Any]:
    return {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16, **vision},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }


def tiny_module(config: dict[str, Any]) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return open_clip.CLIP(**config).eval()


def write_folder(folder: Path, config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> torch.nn.Module:
    """Write a folder for `local-dir:` with random weights and return its network."""
    folder.mkdir(parents=True, exist_ok=True)
    module = tiny_module(config)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    return module


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Register `ovsr-tiny` as a model of open_clip with one tag, whose file is on the hub."""
    import open_clip.factory
    import open_clip.pretrained

    settings = open_clip.pretrained._pcfg(hf_hub=f"{REPOSITORY}/", mean=(0.1, 0.2, 0.3), resize_mode="longest")
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, tiny_config())
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, {"first_tag": settings})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return NAME


def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_folder(tmp_path: Path):
    module = write_folder(tmp_path, tiny_config(), {"mean": [0.4, 0.5, 0.6], "resize_mode": "squash", "fill_color": 9})
    clip = load_clip(f"local-dir:{tmp_path}", None, CPU)
    assert (clip.image_size, clip.resize_mode, clip.fill_color) == (32, "squash", 9)
    assert clip.normalisation.mean == (0.4, 0.5, 0.6)
    assert clip.normalisation.std == open_clip.OPENAI_DATASET_STD
    assert clip.context_length == 12
    assert clip.logit_scale == pytest.approx(1 / 0.07)
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(pixels()), module.encode_image(pixels(), normalize=True))
    assert not clip.encode_image(pixels()).requires_grad


def test_text_embeddings_have_the_order_of_the_prompts(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(clip_module, "TEXT_BATCH_SIZE", 2)
    module = write_folder(tmp_path, tiny_config())
    prompts = ["a dog", "sky", "grass and trees", "a cow", "車"]
    embeddings = load_clip(f"local-dir:{tmp_path}", None, CPU).encode_text(prompts)
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    with torch.no_grad():
        separate = torch.cat([module.encode_text(tokenizer([prompt]), normalize=True) for prompt in prompts])
    torch.testing.assert_close(embeddings, separate)
    assert (torch.cdist(separate, separate) + 9 * torch.eye(5)).min() > 1e-3, "distinct prompts, so that order matters"


def test_context_length_at_the_limit(tmp_path: Path):
    write_folder(tmp_path, tiny_config())
    clip = load_clip(f"local-dir:{tmp_path}", None, CPU)
    # "dog" is one token; the start and the end take one each of the twelve
    prompts = ["dog", *(" ".join(["dog"] * count) for count in (10, 11, 300))]
    assert clip.exceeds_context_length(prompts) == [False, False, True, True]


def test_fingerprint_depends_only_on_the_text_tower(tmp_path: Path):
    def fingerprint(name: str, change: str | None = None, **text: Any) -> str:
        config = tiny_config()
        config["text_cfg"].update(text)
        module = write_folder(tmp_path / name, config)
        if change is not None:
            state = module.state_dict()
            state[change] = state[change] + 1e-3
            save_file(state, tmp_path / name / "open_clip_model.safetensors")
        return load_clip(f"local-dir:{tmp_path / name}", None, CPU).text_fingerprint

    base = fingerprint("a")
    assert len(base) == 64
    assert fingerprint("b") == base
    assert fingerprint("c", "visual.proj") == base
    assert fingerprint("d", "token_embedding.weight") != base
    assert fingerprint("e", "text_projection") != base
    assert fingerprint("f", heads=4) != base, "the number of heads does not change any tensor"


def test_name_with_file_equals_the_folder(tmp_path: Path, named: str):
    write_folder(tmp_path, tiny_config())
    by_folder = load_clip(f"local-dir:{tmp_path}", None, CPU)
    by_file = load_clip(named, tmp_path / "open_clip_model.safetensors", CPU)
    assert torch.equal(by_file.encode_image(pixels()), by_folder.encode_image(pixels()))
    assert by_file.normalisation.mean == (0.1, 0.2, 0.3), "what all tags of the model agree on"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_float32_and_does_not_change_texts(tmp_path: Path, dtype):
    write_folder(tmp_path, tiny_config())
    clip = load_clip(f"local-dir:{tmp_path}", None, CPU)
    expected, texts, fingerprint = clip.encode_image(pixels()), clip.encode_text(["a", "b"]), clip.text_fingerprint
    assert clip.use_precision(dtype) is clip and clip.dtype == dtype
    embeddings = clip.encode_image(pixels())
    assert embeddings.dtype == torch.float32 and not torch.equal(embeddings, expected)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    assert (embeddings * expected).sum(1).min() > 0.999
    assert torch.equal(clip.encode_text(["a", "b"]), texts) and clip.text_fingerprint == fingerprint


def test_a_tower_that_overflows_in_half_precision_is_rejected(tmp_path: Path):
    write_folder(tmp_path, tiny_config())
    clip = load_clip(f"local-dir:{tmp_path}", None, CPU)
    clip.image_tower.conv1.weight.mul_(1e6)
    with pytest.raises(ModelError, match=r"cannot be run in torch\.float16.*models\.clip_precision to 'bfloat16'"):
        clip.use_precision(torch.float16)


@pytest.mark.parametrize("content", ["plain", "state_dict"])
def test_torch_file(tmp_path: Path, named: str, content):
    state = tiny_module(tiny_config()).state_dict()
    torch.save(state if content == "plain" else {"epoch": 1, "state_dict": state}, tmp_path / "weights.pt")
    clip = load_clip(named, str(tmp_path / "weights.pt"), CPU)
    assert torch.equal(clip._module.text_projection, state["text_projection"])


def put_into_hub_cache(cache: Path) -> torch.nn.Module:
    repository = cache / f"models--{REPOSITORY.replace('/', '--')}"
    module = write_folder(repository / "snapshots" / "0123abcd", tiny_config())
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    return module


@pytest.mark.parametrize("tag", ["first_tag", "First-Tag"])
def test_tag_in_the_hub_cache_needs_no_network(tmp_path: Path, named: str, tag):
    module = put_into_hub_cache(tmp_path / "hub-cache")
    clip = load_clip(named, tag, CPU)
    assert torch.equal(clip._module.text_projection, module.text_projection)
    assert (clip.normalisation.mean, clip.resize_mode) == ((0.1, 0.2, 0.3), "longest")


def test_tag_sets_the_activation_function(tmp_path: Path, named: str):
    open_clip.pretrained._PRETRAINED[NAME]["first_tag"]["quick_gelu"] = True
    module = put_into_hub_cache(tmp_path / "hub-cache")
    quick = tiny_module({**tiny_config(), "quick_gelu": True})
    quick.load_state_dict(module.state_dict())
    with torch.no_grad():
        expected = quick.encode_image(pixels(), normalize=True)
        torch.testing.assert_close(load_clip(named, "first_tag", CPU).encode_image(pixels()), expected)
        assert not torch.allclose(module.encode_image(pixels(), normalize=True), expected, atol=1e-4)


def test_tag_that_is_not_cached_is_downloaded(tmp_path: Path, named: str, monkeypatch):
    module = write_folder(tmp_path / "downloaded", tiny_config())
    requested = []

    def download(model_id: str, **_: Any) -> str:
        requested.append(model_id)
        return str(tmp_path / "downloaded" / "open_clip_model.safetensors")

    monkeypatch.setattr(clip_module, "fetch", lambda download, **_: download())
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained_from_hf", download)
    clip = load_clip(named, "first_tag", CPU)
    assert requested == [REPOSITORY]
    assert torch.equal(clip._module.text_projection, module.text_projection)


def error_message(name: str, weights: str | Path | None) -> str:
    with pytest.raises(ModelError) as caught:
        load_clip(name, weights, CPU)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1200
    return message


def test_unknown_model_lists_similar_names():
    message = error_message("ViT-B16", "openai")
    assert "ViT-B-16" in message
    assert "local-dir:DIR" in message


@pytest.mark.parametrize("weights", [None, "secnod_tag", Path("nowhere.safetensors")])
def test_unknown_weights_list_the_tags(named: str, weights):
    message = error_message(named, weights)
    assert "its tags: first_tag" in message
    assert "--clip-weights PATH" in message
    if weights is not None:
        assert str(weights) in message


def test_offline_tag_names_file_source_and_remedy(tmp_path: Path, named: str):
    message = error_message(named, "first_tag")
    for part in (
        "open_clip_model.safetensors",
        f"https://huggingface.co/{REPOSITORY}",
        str(tmp_path / "hub-cache"),
        "clip_weights=PATH",
        "--clip-weights PATH",
        "clip='local-dir:DIR'",
        "--clip local-dir:DIR",
    ):
        assert part in message


def test_tokenizer_from_the_hub_needs_transformers(named: str, monkeypatch):
    open_clip.factory._MODEL_CONFIGS[NAME]["text_cfg"]["hf_tokenizer_name"] = REPOSITORY
    monkeypatch.setattr(clip_module.importlib.util, "find_spec", lambda _name: None)
    assert "pip install transformers" in error_message(named, "first_tag")


def test_tokenizer_from_the_hub_without_network(named: str, monkeypatch):
    open_clip.factory._MODEL_CONFIGS[NAME]["text_cfg"]["hf_tokenizer_name"] = REPOSITORY
    monkeypatch.setattr(clip_module.importlib.util, "find_spec", lambda _name: object())
    assert "the tokenizer of CLIP 'ovsr-tiny' is not on this machine" in error_message(named, "first_tag")


@pytest.mark.parametrize("state", [{"fc.weight": torch.zeros(2, 2)}, "narrow"])
def test_other_architecture_names_the_keys(tmp_path: Path, named: str, state):
    if state == "narrow":
        state = tiny_module(tiny_config(width=32)).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    message = error_message(named, tmp_path / "weights.safetensors")
    assert f"weights.safetensors does not fit CLIP '{NAME}'" in message
    assert "visual.class_embedding" in message or '"positional_embedding"' in message


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archive(tmp_path: Path, named: str):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    assert "script.pt is a TorchScript archive" in error_message(named, tmp_path / "script.pt")


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("as_folder", [False, True])
def test_code_is_rejected_and_not_run(tmp_path: Path, named: str, as_folder):
    torch.save({"x": torch.zeros(2), "y": Malicious(tmp_path / "was-run")}, tmp_path / "weights.pth")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config()}))
    message = (
        error_message(f"local-dir:{tmp_path}", None) if as_folder else error_message(named, tmp_path / "weights.pth")
    )
    assert "weights.pth holds code" in message
    assert not (tmp_path / "was-run").exists()


def test_garbage(tmp_path: Path, named: str):
    (tmp_path / "weights.pt").write_bytes(b"this is no checkpoint")
    assert "weights.pt cannot be read" in error_message(named, tmp_path / "weights.pt")


def test_folder_without_weights_or_config(tmp_path: Path):
    assert "is not a model folder" in error_message(f"local-dir:{tmp_path / 'nowhere'}", None)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config()}))
    assert "is not a model folder" in error_message(f"local-dir:{tmp_path}", None)


def test_folder_with_a_broken_config(tmp_path: Path):
    write_folder(tmp_path, tiny_config())
    (tmp_path / "open_clip_config.json").write_text("{")
    assert "local-dir" in error_message(f"local-dir:{tmp_path}", None)


def test_folder_together_with_a_file(tmp_path: Path):
    write_folder(tmp_path, tiny_config())
    assert "has its own weights" in error_message(f"local-dir:{tmp_path}", tmp_path / "open_clip_model.safetensors")


def test_non_square_model(tmp_path: Path):
    write_folder(tmp_path, tiny_config(image_size=[32, 64]))
    assert "32x64; only square" in error_message(f"local-dir:{tmp_path}", None)


OFFLINE = """
import time, torch
from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.clip import load_clip
import open_clip  # measure the answer without the imports
start = time.perf_counter()
try:
    load_clip("ViT-B-16", "datacomp_xl_s13b_b90k", torch.device("cpu"))
except ModelError as error:
    print(time.perf_counter() - start, error, sep="|")
"""


def test_no_network_and_no_cache(tmp_path: Path):
    dead = "http://127.0.0.1:9"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "https_proxy": dead, "http_proxy": dead, "no_proxy": ""}
    environment.pop("HF_HUB_OFFLINE", None)
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    seconds, message = done.stdout.strip().split("|")
    assert float(seconds) < 5
    assert "https://huggingface.co/laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K" in message
    assert str(tmp_path / "hub") in message


def test_real_folder():
    if "OVSR_TEST_ASSETS" not in os.environ:
        pytest.skip("OVSR_TEST_ASSETS is not set")
    clip = load_clip(f"local-dir:{Path(os.environ['OVSR_TEST_ASSETS'], 'clip', 'effb0_msrc')}", None, CPU)
    assert clip.logit_scale == pytest.approx(67.52, abs=0.005)
    assert (clip.image_size, clip.resize_mode) == (160, "squash")
    grass, lawn, car = torch.nn.functional.normalize(clip.encode_text(["grass", "lawn", "car"]), dim=-1)
    assert grass @ lawn > 0.95 > grass @ car


def test_dropping_the_padding_of_prompts_changes_nothing(tmp_path: Path):
    module = write_folder(tmp_path, tiny_config())
    clip = load_clip(f"local-dir:{tmp_path}", None, CPU)
    prompts = ["a", "! ! a ! !", "a photo of a dog", "one two three four five six seven eight nine ten eleven twelve"]
    tokens = open_clip.tokenize(prompts, context_length=12)
    for indices in ([0], [1], [0, 2], [0, 1, 2, 3]):
        with torch.no_grad():
            expected = module.encode_text(tokens[indices], normalize=True)
        embeddings = clip.encode_text([prompts[i] for i in indices])
        torch.testing.assert_close(embeddings, expected, atol=1e-6, rtol=0)
