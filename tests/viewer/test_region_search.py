"""Search: the ranking against NumPy, the CLIP of a run, and the command from the store to the page."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from gallery_files import list_files, read_data
from oracles import encode_masks
from ovsr_gpu.cli import main
from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.clip import load_clip
from ovsr_gpu.store.manifest import MANIFEST_FILE
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.schema import ANNOTATION_COLUMNS, SCHEMA, STORE_FOLDER
from ovsr_gpu.synthetic.scenes import make_scene
from ovsr_gpu.viewer.region_search import embed_text, load_run_clip, search_regions

CPU = torch.device("cpu")
MASK = np.arange(24).reshape(4, 6) % 3 == 0


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def write_part(out: Path, number: int, embeddings: np.ndarray, **columns: Any) -> None:
    """Write a part of a store with embeddings `[n, E]`; row i is region i of the image named by the part number."""
    row = {
        "image": str(number),
        "file": f"{number}.png",
        "source": None,
        "height": 4,
        "width": 6,
        "box": [0, 0, 6, 4],
    }
    row |= {"area": 8, "class_index": 1, "score": 0.5, "probabilities": [0.1, 0.5, 0.4]}
    row["rle"] = encode_masks(MASK * 1)[1]
    rows = [
        row | {"region": region, "embedding": embedding} | {key: values[region] for key, values in columns.items()}
        for region, embedding in enumerate(embeddings.astype(np.float16))
    ]
    (out / STORE_FOLDER).mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"failures": "[]"})
    parquet.write_table(table, out / STORE_FOLDER / f"part-{number:06}.parquet")


def record_clip(out: Path, model: str, recorded_name: str | None = None) -> None:
    """Record in the manifest of `out` that the run was made with this CLIP, optionally under another name."""
    file = out / MANIFEST_FILE
    described = json.loads(file.read_text()) if file.exists() else {}
    fingerprint = load_clip(model, None, CPU).text_fingerprint
    clip = {"model": recorded_name or model, "weights": None, "text_fingerprint": fingerprint}
    file.write_text(json.dumps(described | {"clip": clip}))


@pytest.mark.parametrize("count", [1, 7, 100, 5000])
def test_ranking_agrees_with_numpy(tmp_path: Path, count: int) -> None:
    random = np.random.default_rng(count)
    sizes = [1500, 0, 3, 1024]  # more than a record batch, none, few, exactly one
    parts = [unit(random.standard_normal((size, 24))).astype(np.float16) for size in sizes]
    parts[0][[3, 1400]] = parts[2][1] = parts[3][[0, 1023]] = parts[0][7]  # equal rows, far from each other
    parts[3][5, 2] = np.nan
    for number, part in enumerate(parts):
        write_part(tmp_path, number, part)
    text = unit(parts[0][7].astype(np.float64) + 0.1 * random.standard_normal(24)).astype(np.float32)
    rows = np.concatenate(parts).astype(np.float64) @ text.astype(np.float64)
    region_ids = [(str(number), region) for number, size in enumerate(sizes) for region in range(size)]
    expected = np.argsort(np.where(np.isnan(rows), np.inf, -rows), kind="stable")[: min(count, len(rows) - 1)]
    hits = search_regions(Store(tmp_path), torch.from_numpy(text), count)
    assert [(hit.row["image"], hit.row["region"]) for hit in hits] == [region_ids[index] for index in expected]
    assert np.allclose([hit.similarity for hit in hits], rows[expected], atol=1e-6)
    assert set(hits[0].row) == set(ANNOTATION_COLUMNS) and hits[0].row["rle"] == encode_masks(MASK * 1)[1]
    first = [(hit.row["image"], hit.row["region"]) for hit in hits[:6]]
    assert first == [("0", 3), ("0", 7), ("0", 1400), ("2", 1), ("3", 0), ("3", 1023)][:count]
    assert len({hit.similarity for hit in hits[:6]}) == 1


def test_invalid_rankings(tmp_path: Path) -> None:
    text = torch.eye(8)[0]
    with pytest.raises(ValueError, match="no regions"):
        search_regions(Store(tmp_path), text, 1)
    write_part(tmp_path, 0, np.zeros((0, 8)))
    with pytest.raises(ValueError, match="no regions"):
        search_regions(Store(tmp_path), text, 1)
    write_part(tmp_path, 1, np.eye(6))
    with pytest.raises(ValueError, match=r"6 dimensions.*8.*different CLIP"):
        search_regions(Store(tmp_path), text, 1)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        search_regions(Store(tmp_path), text, 0)


def test_the_clip_of_a_run(tmp_path: Path, tiny_clip: str) -> None:
    record_clip(tmp_path, tiny_clip)
    clip = load_run_clip(tmp_path, None, None, CPU)
    assert clip.name == tiny_clip
    embedding = embed_text(clip, "a red car")
    assert embedding.dtype == torch.float32 and embedding.shape == (32,)
    assert float(embedding.norm()) == pytest.approx(1, abs=1e-6)
    alone, neutral = clip.encode_text(["a red car"])[0], clip.encode_text(["something else"])[0]
    assert abs(float(embedding @ neutral)) < 1e-6
    assert torch.allclose(
        embedding * (1 - (alone @ neutral) ** 2).sqrt() + (alone @ neutral) * neutral, alone, atol=1e-5
    )
    with pytest.raises(ValueError, match="blank"):
        embed_text(clip, " \n")
    with pytest.raises(ValueError, match="77 tokens"):
        embed_text(clip, "word " * 80)


def test_another_clip_is_rejected(tmp_path: Path, tiny_clip: str) -> None:
    record_clip(tmp_path, tiny_clip)
    with pytest.raises(ValueError, match=r"another CLIP than 'embedded'.*--clip and --clip-weights"):
        load_run_clip(tmp_path, "embedded", None, CPU)
    moved = shutil.copytree(tiny_clip.removeprefix("local-dir:"), tmp_path / "moved")
    record_clip(tmp_path, tiny_clip, recorded_name="local-dir:gone")
    with pytest.raises(ModelError, match=r"local-dir:gone.*new location with --clip and --clip-weights"):
        load_run_clip(tmp_path, None, None, CPU)
    assert load_run_clip(tmp_path, f"local-dir:{moved}", None, CPU).name == f"local-dir:{moved}"
    for content in ("{}", "[]", '{"clip": "ViT-B-16"}', "no JSON"):
        (tmp_path / MANIFEST_FILE).write_text(content)
        with pytest.raises(ValueError, match=r"cannot be searched: its run\.json names no CLIP"):
            load_run_clip(tmp_path, None, None, CPU)


def ovsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsr", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command_from_a_run_to_a_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["in/a.png", "in/b.png", "in/gone.png", "c.png"]
    Path("in").mkdir()
    for seed, name in enumerate(names):
        Image.fromarray(make_scene(seed).pixels).save(name)
    with tarfile.open("in/shard.tar", "w") as tar:
        tar.add("c.png")
    classes = "red disc; blue square; grass"
    assert (
        ovsr(
            monkeypatch,
            "label",
            "in",
            "in/shard.tar",
            "--out",
            "run",
            "--classes",
            classes,
            "--model",
            "embedded",
            "--device",
            "cpu",
        )
        == 0
    )
    record_clip(Path("run"), "embedded")
    Path("in/gone.png").unlink()
    before = {path: Path("run", path).read_bytes() for path in list_files(Path("run"))}
    capsys.readouterr()
    for text in ("a red disc", "</script> grass"):
        assert ovsr(monkeypatch, "search", "run", text, "--device", "cpu") == 0
    output = capsys.readouterr().out
    assert "regions, the most similar first" in output and f"Open {Path('run/search/index.html')}" in output
    page = tmp_path / "run/search/index.html"
    data = read_data(page)
    assert data["kind"] == "search" and data["title"] == f"“{text}” in run"
    hits = search_regions(Store(tmp_path / "run"), embed_text(load_clip("embedded", None, CPU), text), 100)
    expected = [(number, hit) for number, hit in enumerate(hits) if hit.row["image"] != "gone"]
    assert [(image["number"], image["name"]) for image in data["images"]] == [
        (n, hit.row["image"]) for n, hit in expected
    ]
    assert {image["name"] for image in data["images"]} == {"a", "b", "shard/c"}
    assert [failure["path"] for failure in data["failures"]] == ["gone"]
    for image, (_, hit) in zip(data["images"], expected, strict=True):
        assert image["regions"] == [[hit.row["class_index"], round(hit.similarity, 4), hit.row["area"]]]
    after = {path: Path("run", path).read_bytes() for path in list_files(Path("run"))}
    assert before.items() <= after.items() and {Path(path).parts[0] for path in after.keys() - before} == {"search"}
    assert ovsr(monkeypatch, "search", "run", "grass", "--count", 2, "--out", "elsewhere", "--device", "cpu") == 0
    assert len(list(Path("elsewhere/search/masks").iterdir())) == 2
    Path("elsewhere/search/data.js").unlink()
    assert ovsr(monkeypatch, "search", "run", "grass", "--out", "elsewhere", "--device", "cpu") == 2
    assert "is not a search of this program" in capsys.readouterr().err
