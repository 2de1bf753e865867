"""Images are found again by what a run's store keeps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_shards import image_bytes, make_tar, read

from ovsr_gpu.sources.files import find_images
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.stored import stored_image
from ovsr_gpu.store.record import LabelledImage
from stores import store_of


def record_of(image: ImageSource) -> LabelledImage:
    pixels = read(image).permute(1, 2, 0).numpy()
    one = np.ones((1, 1), np.float32)
    boxes = np.array([[0, 0, pixels.shape[1], pixels.shape[0]]])
    maps = np.zeros(pixels.shape[:2], np.int32)
    return LabelledImage(image, pixels, maps, maps, boxes, boxes[:, 3], boxes[:, 0], one[0], one, one, ["0"])


def test_images_are_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tar("a.tar", ["one.png", "in/two.png", "one.png"])
    Path("three.bmp").write_bytes(image_bytes(7))
    images = find_images(["a.tar", "three.bmp"])
    store = store_of(tmp_path, *map(record_of, images))
    kept = [rows[0] for rows in store.images(["image", "file", "source"])]
    again = [stored_image(row["image"], row["file"], row["source"]) for row in kept]
    assert [one.identity for one in again] == [one.identity for one in images] and len(again) == 4
    assert all(read(one).equal(read(other)) for one, other in zip(again, images, strict=True))
