"""All kinds of unusual and bad images in one run: good ones are labelled, bad ones are reported with a reason."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsr_gpu.runs.session import RunSummary
from ovsr_gpu.sources.files import find_images
from runs_helpers import VOCABULARY, FakePipeline, assert_complete, label, read_jsonl

ODD_NAMES = [
    "two words",
    "it's",
    "犬と猫",
    "кошка",
    *([] if os.name == "nt" else ['double"quote', "new\nline", "back\\slash"]),
]
GOOD_SIZES = {  # width, height
    "cmyk": (32, 24),
    "grey16": (32, 24),
    "palette": (32, 24),
    "alpha": (32, 24),
    "rotated": (24, 32),
    "animated": (32, 24),
    "dot": (1, 1),
    "tall": (3, 10000),
    "constant": (32, 24),
    "twin": (32, 24),
    "twin~2": (32, 24),
    "folder/twin": (32, 24),
    **{name: (8, 8) for name in ODD_NAMES},
}
BAD_REASONS = {
    "truncated.jpg": "truncated",
    "empty.jpg": "empty",
    "text.jpg": "not an image",
    "bomb.png": "MAX_IMAGE_PIXELS",
    "huge.png": "MAX_IMAGE_PIXELS",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad images")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80).save(folder / "grey16.png")
    noise.quantize(16).save(folder / "palette.png")
    noise.convert("RGBA").save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(folder / "rotated.jpg", exif=exif)
    noise.save(folder / "animated.gif", save_all=True, append_images=[noise.rotate(90)])
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "dot.png")
    Image.new("RGB", (3, 10000), (9, 9, 9)).save(folder / "tall.png")
    Image.new("RGB", (32, 24), (9, 9, 9)).save(folder / "constant.png")
    (folder / "folder").mkdir()
    for name in ("twin.jpg", "twin.png", "folder/twin.jpg"):
        noise.save(folder / name)
    for name in ODD_NAMES:
        noise.resize((8, 8)).save(folder / f"{name}.png")
    whole = (folder / "cmyk.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("Not an image, whatever its name says.")
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (folder / "huge.png").write_bytes(png_header(10_000, 10_000))
    return folder


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = b"IDAT" + zlib.compress(b"")
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, empty)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSummary, Path]:
    out = tmp_path_factory.mktemp("out")
    return label(FakePipeline(), find_images([folder]), VOCABULARY, out, batch_size=4), out


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_good_ones_are_all_labelled(folder: Path, run: tuple[RunSummary, Path]) -> None:
    summary, out = run
    names = [image.name for image in find_images([folder]) if image.path.name not in BAD_REASONS]
    assert sorted(names) == sorted(GOOD_SIZES)
    assert summary.labelled == len(GOOD_SIZES)
    assert_complete(out, names)
    for name, size in GOOD_SIZES.items():
        with Image.open(out / "labels" / f"{name}.png") as labels:
            assert labels.size == size


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_bad_ones_are_all_reported(folder: Path, run: tuple[RunSummary, Path]) -> None:
    summary, out = run
    errors = read_jsonl(out / "errors.jsonl")
    assert summary.failed == len(BAD_REASONS) == len(errors)
    assert [error["path"] for error in errors] == sorted(str(folder / name) for name in BAD_REASONS)
    for error in errors:
        assert set(error) == {"path", "stage", "reason"} and error["stage"] == "decode"
        assert BAD_REASONS[Path(error["path"]).name] in error["reason"]
    assert len(summary.failures) == 5
    assert json.loads((out / "summary.json").read_text())["failed"] == len(BAD_REASONS)
