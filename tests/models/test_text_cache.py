"""The disk cache of text embeddings: round trips, and errors that never end a run."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from ovsr_gpu.models import text_cache


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


def unit(seed: int) -> torch.Tensor:
    vector = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm()


def test_round_trip_in_torch_home(home: Path):
    text_cache.store("a", unit(1))
    text_cache.store("b", unit(2))
    assert torch.equal(text_cache.load("a"), unit(1))
    assert torch.equal(text_cache.load("b"), unit(2))
    assert sorted(p.name for p in (home / "ovsr_gpu" / "text").iterdir()) == ["a.safetensors", "b.safetensors"]


def test_absent():
    assert text_cache.load("a") is None


def test_key_depends_on_everything(monkeypatch: pytest.MonkeyPatch):
    clip = SimpleNamespace(text_fingerprint="f")
    keys = [
        text_cache.cache_key(clip, ["a dog", "dog"]),
        text_cache.cache_key(clip, ["dog", "a dog"]),
        text_cache.cache_key(clip, ["a dogdog"]),
        text_cache.cache_key(clip, ["車"]),
        text_cache.cache_key(SimpleNamespace(text_fingerprint="g"), ["a dog", "dog"]),
    ]
    assert text_cache.cache_key(clip, ["a dog", "dog"]) == keys[0]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        keys.append(text_cache.cache_key(clip, ["a dog", "dog"]))
    with monkeypatch.context() as patch:
        patch.setattr(text_cache, "version", lambda _package: "0.0")
        keys.append(text_cache.cache_key(clip, ["a dog", "dog"]))
    with monkeypatch.context() as patch:
        patch.setattr(text_cache, "SCHEMA_VERSION", -1)
        keys.append(text_cache.cache_key(clip, ["a dog", "dog"]))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        save({"embedding": unit(1)})[:-8],
        save({"other": unit(1)}),
        save({"embedding": unit(1).half()}),
        save({"embedding": torch.zeros(16)}),
        save({"embedding": torch.full((16,), torch.nan)}),
        save({"embedding": unit(1)[None]}),
    ],
)
def test_damaged_file_counts_as_absent_and_is_replaced(home: Path, content):
    text_cache.store("a", unit(1))
    (home / "ovsr_gpu" / "text" / "a.safetensors").write_bytes(content)
    assert text_cache.load("a") is None
    text_cache.store("a", unit(1))
    assert torch.equal(text_cache.load("a"), unit(1))


def test_one_warning_for_a_folder_that_cannot_be_written(home: Path, monkeypatch, caplog):
    (home / "file").write_text("where the folder should be")
    monkeypatch.setenv("TORCH_HOME", str(home / "file"))
    text_cache._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        text_cache.store("a", unit(1))
        text_cache.store("b", unit(2))
    assert text_cache.load("a") is None
    assert len(caplog.records) == 1
    assert str(home / "file") in caplog.text


def test_failed_replacement_leaves_nothing_behind(home: Path, caplog):
    (home / "ovsr_gpu" / "text" / "a.safetensors" / "in the way").mkdir(parents=True)
    text_cache._warn_once.cache_clear()
    text_cache.store("a", unit(1))
    assert [p.name for p in (home / "ovsr_gpu" / "text").iterdir()] == ["a.safetensors"]
    assert "not cached" in caplog.text


def test_readers_see_complete_files_while_writers_replace_them():
    text_cache.store("a", unit(0))

    def write(seed: int) -> None:
        text_cache.store("a", unit(seed % 4))

    def read(_: int) -> bool:
        embedding = text_cache.load("a")
        return embedding is not None and any(torch.equal(embedding, unit(seed)) for seed in range(4))

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, seed) for seed in range(200)]
        assert all(pool.map(read, range(200)))
    assert all(done.exception() is None for done in writes)
