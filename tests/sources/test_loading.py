from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.errors import PictureError
from ovsr_gpu.sources import loading
from ovsr_gpu.sources.files import Picture
from ovsr_gpu.sources.loading import load_batches


def save(folder: Path, sizes: list[tuple[int, int]]) -> list[Picture]:
    pictures = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.new("RGB", size, (number, 0, 0)).save(path)
        pictures.append(Picture(path, str(number)))
    return pictures


def batches_of(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    left = iter(pictures)
    while batch := list(islice(left, size)):
        yield batch


def test_batches_keep_the_order_and_hold_the_bad_ones(tmp_path: Path) -> None:
    pictures = save(tmp_path, [(4, 4)] * 7)
    pictures[2].path.write_text("no picture")
    batches = list(load_batches(batches_of(pictures, 3)))
    assert [len(batch.pictures) for batch in batches] == [3, 3, 1]
    loaded = [one for batch in batches for one in batch.pictures]
    assert [one.picture for one in loaded] == pictures
    assert isinstance(loaded[2].pixels, PictureError)
    reds = [int(one.pixels[0, 0, 0]) for one in loaded if isinstance(one.pixels, Tensor)]
    assert reds == [0, 1, 3, 4, 5, 6]
    assert batches[0].canvas.result().pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert batches[1].canvas.result().own_sizes == ((4, 4),) * 3
    assert all(one.decode_seconds > 0 for one in loaded)


def test_a_batch_closes_before_its_padded_pixels_exceed_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PIXEL_BUDGET", 1000)
    pictures = save(tmp_path, [(10, 10), (10, 10), (100, 1), (1, 100), (60, 60), (5, 5)])
    # (10, 10) twice and (100, 1) are padded to 3 x 100 x 10 > 1000; (60, 60) alone is above the budget.
    sizes = [[one.picture.name for one in batch.pictures] for batch in load_batches([pictures])]
    assert sizes == [["0", "1"], ["2"], ["3"], ["4"], ["5"]]


def test_decoding_stays_a_bounded_way_ahead(tmp_path: Path) -> None:
    started = []
    lock = threading.Lock()

    def decode(file: BinaryIO) -> Tensor:
        with lock:
            started.append(file)
        return torch.zeros(3, 4, 4, dtype=torch.uint8)

    pictures = save(tmp_path, [(4, 4)] * 100)
    batches = load_batches(batches_of(pictures, 2), decode=decode)
    next(batches)
    batches.close()
    assert len(started) <= 2 * 2 + 1 + 2 + 2 * loading.WORKERS
    assert not any(thread.name.startswith("ovsr-decode") for thread in threading.enumerate())


def test_pictures_are_found_no_further_ahead_than_they_are_decoded(tmp_path: Path) -> None:
    [picture] = save(tmp_path, [(4, 4)])
    found = count()
    batches = load_batches(batches_of((Picture(picture.path, str(number)) for number in found), 2))
    assert [one.picture.name for one in next(batches).pictures] == ["0", "1"]
    batches.close()
    assert next(found) <= 4 * (2 + loading.WORKERS)


def test_any_failure_of_one_picture_stays_with_it(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> Tensor:
        raise MemoryError("too large")

    [batch] = load_batches([save(tmp_path, [(4, 4)])], decode=fail)
    [loaded] = batch.pictures
    assert isinstance(loaded.pixels, MemoryError) and loaded.height_and_width == (0, 0)


def test_no_pictures_no_batches() -> None:
    assert list(load_batches([])) == []
