from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovsr_gpu import ImageError
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.sources.images import load_image_batch

CPU = torch.device("cpu")


def test_all_kinds_of_images_in_one_list(tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "one.png"
    Image.fromarray(array).save(path)
    chw = torch.tensor(array).permute(2, 0, 1)
    batch = load_image_batch([chw, array, Image.fromarray(array), path, str(path), array[:3, :2]], CPU)
    assert batch.pixels.shape == (6, 3, 5, 7)
    assert all(torch.equal(one, chw) for one in batch.pixels[:5])
    assert torch.equal(batch.pixels[5, :, :3, :2], chw[:, :3, :2])
    assert not batch.pixels[5, :, 3:].any() and not batch.pixels[5, :, :, 2:].any()
    assert batch.sizes.tolist() == [[5, 7]] * 5 + [[3, 2]]
    parts = batch.split(4)
    assert [len(part) for part in parts] == [4, 2]
    assert torch.equal(parts[1].pixels, batch.pixels[4:]) and torch.equal(parts[1].sizes, batch.sizes[4:])


def test_maps_are_returned_in_the_form_of_the_images():
    sizes = [(4, 6), (3, 9)]
    batch = ImageBatch.of([np.zeros((*size, 3), np.uint8) for size in sizes], CPU)
    maps = torch.arange(2 * 4 * 9, dtype=torch.int32).view(2, 4, 9)
    cropped = batch.crop_maps(maps)
    assert [tuple(image_map.shape) for image_map in cropped] == sizes
    expected = maps.clone()
    expected[0, :, 6:] = 0
    expected[1, 3:] = 0
    assert torch.equal(batch.pad_maps(cropped), expected)
    tensor = ImageBatch.of(torch.zeros(2, 3, 4, 9, dtype=torch.uint8), CPU)
    assert tensor.crop_maps(maps) is maps
    assert torch.equal(tensor.pad_maps(maps), maps)
    with pytest.raises(ImageError, match="belongs to other images"):
        batch.pad_maps(maps)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 3, 4, 4), "float32"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), "non-empty"),
        ([], "at least one"),
        ("image.jpg", "put a single image in a list"),
        (np.zeros((4, 4, 3), np.uint8), "ndarray"),
        ([torch.zeros(1, 4, 4, dtype=torch.uint8)], r"\[1, 4, 4\]"),
        ([np.zeros((4, 4, 3))], "float64"),
        ([np.zeros((4, 4), np.uint8)], r"\(4, 4\)"),
        ([np.zeros((0, 4, 3), np.uint8)], "non-empty"),
        ([7], "int"),
        (["no such image.jpg"], "no such image.jpg"),
    ],
)
def test_refused(images, message):
    with pytest.raises(ImageError, match=message):
        load_image_batch(images, CPU)
