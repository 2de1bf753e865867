"""Reading checkpoint files: all supported formats, and an error for each kind of invalid file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.checkpoints import read_state_dict


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {"a.weight": torch.randn(2, 3, generator=generator), "a.bias": torch.randn(2, generator=generator)}


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(actual[key], tensor)


@pytest.mark.parametrize("state_dict_key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_key_of_the_state_dict(tmp_path: Path, state, state_dict_key, prefix):
    saved = {prefix + key: tensor for key, tensor in state.items()}
    if state_dict_key is not None:
        saved = {"epoch": 3, state_dict_key: saved, "class_names": ["dog", "sky"]}
    torch.save(saved, tmp_path / "weights.pth")
    assert_same(read_state_dict(tmp_path / "weights.pth"), state)


def test_safetensors(tmp_path: Path, state):
    save_file(state, tmp_path / "weights.safetensors")
    assert_same(read_state_dict(str(tmp_path / "weights.safetensors")), state)


def test_entries_that_are_not_tensors_are_ignored(tmp_path: Path, state):
    torch.save({**state, "epoch": 7}, tmp_path / "weights.pth")
    assert_same(read_state_dict(tmp_path / "weights.pth"), state)


def test_missing_file(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no weights file at .*absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")


class Malicious:
    """An object that creates the folder `target` when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_code_is_rejected_and_not_run(tmp_path: Path, state):
    path, target = tmp_path / "evil.pth", tmp_path / "was-run"
    torch.save({**state, "x": Malicious(target)}, path)
    with pytest.raises(ModelError, match=r"evil\.pth holds code .*mkdir.*safetensors") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the file must have been dangerous for this test to mean anything"


def test_plain_pickle_with_code_is_rejected_and_not_run(tmp_path: Path):
    path, target = tmp_path / "evil.pth", tmp_path / "was-run"
    path.write_bytes(pickle.dumps(Malicious(target), protocol=2))
    with pytest.raises(ModelError, match=r"evil\.pth"):
        read_state_dict(path)
    assert not target.exists()


def test_pickled_module_is_rejected(tmp_path: Path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ModelError, match=r"module\.pth holds code or Python objects \(torch\.nn"):
        read_state_dict(tmp_path / "module.pth")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archive(tmp_path: Path):
    path = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    with pytest.raises(ModelError, match=r"script\.pt is a TorchScript archive"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"<!DOCTYPE html><html>", bytes(range(256)) * 20])
def test_garbage(tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} cannot be read .*expected a \.safetensors file") as caught:
        read_state_dict(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_truncated(tmp_path: Path, state):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"weights\.pth cannot be read .*incomplete"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"epoch": 3}])
def test_no_tensors(tmp_path: Path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"weights\.pth holds no state dict"):
        read_state_dict(tmp_path / "weights.pth")
