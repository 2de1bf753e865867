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

from ovsr_gpu.errors import ImageError
from ovsr_gpu.sources import loading
from ovsr_gpu.sources.files import ImageSource
from ovsr_gpu.sources.loading import load_batches


def save(folder: Path, sizes: list[tuple[int, int]]) -> list[ImageSource]:
    images = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.new("RGB", size, (number, 0, 0)).save(path)
        images.append(ImageSource(path, str(number)))
    return images


def batches_of(images: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    left = iter(images)
    while batch := list(islice(left, size)):
        yield batch


def test_batches_keep_the_order_and_include_unreadable_images(tmp_path: Path) -> None:
    images = save(tmp_path, [(4, 4)] * 7)
    images[2].path.write_text("no image")
    batches = list(load_batches(batches_of(images, 3)))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    loaded = [image for batch in batches for image in batch.images]
    assert [image.source for image in loaded] == images
    assert isinstance(loaded[2].pixels, ImageError)
    reds = [int(image.pixels[0, 0, 0]) for image in loaded if isinstance(image.pixels, Tensor)]
    assert reds == [0, 1, 3, 4, 5, 6]
    assert batches[0].image_batch.result().pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert batches[1].image_batch.result().host_sizes == ((4, 4),) * 3
    assert all(image.decode_seconds > 0 for image in loaded)


def test_a_batch_closes_before_its_padded_pixels_exceed_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PIXEL_BUDGET", 1000)
    images = save(tmp_path, [(10, 10), (10, 10), (100, 1), (1, 100), (60, 60), (5, 5)])
    # (10, 10) twice and (100, 1) are padded to 3 x 100 x 10 > 1000; (60, 60) alone is above the budget.
    sizes = [[image.source.name for image in batch.images] for batch in load_batches([images])]
    assert sizes == [["0", "1"], ["2"], ["3"], ["4"], ["5"]]


def test_the_number_of_images_decoded_ahead_is_bounded(tmp_path: Path) -> None:
    started = []
    lock = threading.Lock()

    def decode(file: BinaryIO) -> Tensor:
        with lock:
            started.append(file)
        return torch.zeros(3, 4, 4, dtype=torch.uint8)

    images = save(tmp_path, [(4, 4)] * 100)
    batches = load_batches(batches_of(images, 2), decode=decode)
    next(batches)
    batches.close()
    assert len(started) <= 2 * 2 + 1 + 2 + 2 * loading.NUM_WORKERS
    assert not any(thread.name.startswith("ovsr-decode") for thread in threading.enumerate())


def test_images_are_listed_no_further_ahead_than_they_are_decoded(tmp_path: Path) -> None:
    [image] = save(tmp_path, [(4, 4)])
    numbers = count()
    batches = load_batches(batches_of((ImageSource(image.path, str(number)) for number in numbers), 2))
    assert [image.source.name for image in next(batches).images] == ["0", "1"]
    batches.close()
    assert next(numbers) <= 4 * (2 + loading.NUM_WORKERS)


def test_an_error_of_one_image_does_not_affect_others(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> Tensor:
        raise MemoryError("too large")

    [batch] = load_batches([save(tmp_path, [(4, 4)])], decode=fail)
    [loaded] = batch.images
    assert isinstance(loaded.pixels, MemoryError) and loaded.height_and_width == (0, 0)


def test_no_images_no_batches() -> None:
    assert list(load_batches([])) == []
