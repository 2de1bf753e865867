"""Images are opened again from the records in a run's store."""

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
    ones = np.ones((1, 1), np.float32)
    boxes = np.array([[0, 0, pixels.shape[1], pixels.shape[0]]])
    maps = np.zeros(pixels.shape[:2], np.int32)
    return LabelledImage(image, pixels, maps, maps, boxes, boxes[:, 3], boxes[:, 0], ones[0], ones, ones, ["0"])


def test_images_are_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tar("a.tar", ["one.png", "in/two.png", "one.png"])
    Path("three.bmp").write_bytes(image_bytes(7))
    images = find_images(["a.tar", "three.bmp"])
    store = store_of(tmp_path, *map(record_of, images))
    records = [rows[0] for rows in store.images(["image", "file", "source"])]
    reopened = [stored_image(row["image"], row["file"], row["source"]) for row in records]
    assert [image.identity for image in reopened] == [image.identity for image in images] and len(reopened) == 4
    assert all(read(image).equal(read(original)) for image, original in zip(reopened, images, strict=True))
