import platform

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from oracles import pillow_resize
from ovsr_gpu.kernels.crop_resize import Normalisation, RegionMask, crop_masks, crop_resize

HEIGHT, WIDTH = 150, 220


def sample_images() -> np.ndarray:
    """Return `[2, H, W, 3]`: noise, which reveals every rounding, and a smooth image with edges, like photographs."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = 127 + 60 * np.sin(x / 9) + 60 * np.sign(np.sin(y / 17 + x / 31))
    return np.stack([noise, np.stack([waves, waves[::-1], 255 - waves], -1).clip(0, 255).astype(np.uint8)])


def random_boxes(count: int, min_side: int, seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    width = generator.integers(min_side, WIDTH + 1, count)
    height = generator.integers(min_side, HEIGHT + 1, count)
    x0 = (generator.random(count) * (WIDTH - width + 1)).astype(int)
    y0 = (generator.random(count) * (HEIGHT - height + 1)).astype(int)
    return torch.tensor(np.stack([x0, y0, x0 + width, y0 + height], 1))


def pillow_crop(image: np.ndarray, box, height: int, width: int) -> np.ndarray:
    crop = Image.fromarray(image).crop(tuple(int(side) for side in box))
    return pillow_resize(crop, width, height).transpose(2, 0, 1)


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 resizes along x first, whatever the box")
@pytest.mark.parametrize("box", [(0, 0, 220, 150), (30, 0, 60, 150), (0, 0, 220, 9), (0, 0, 9, 9), (10, 10, 110, 150)])
def test_oracle_equals_pillow(box):
    crop = Image.fromarray(sample_images()[0]).crop(box)
    for width, height in [(24, 24), (96, 40), (300, 300)]:
        expected = np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC))
        assert np.array_equal(pillow_resize(crop, width, height), expected)


@pytest.mark.parametrize("side", [24, 96, 300])
def test_boxes_equal_pillow(side):
    sources = sample_images()
    images = torch.tensor(sources).permute(0, 3, 1, 2)
    boxes = torch.cat(
        [random_boxes(60, 8, side), torch.tensor([[0, 0, WIDTH, HEIGHT], [3, 5, 11, 13], [0, 0, 8, 150]])]
    )
    index = torch.arange(len(boxes)) % 2
    crops = crop_resize(
        images, index, boxes, side, resized=torch.full((len(boxes), 2), side), offset=torch.zeros(len(boxes), 2).long()
    )
    for crop, image, box in zip(crops, index, boxes, strict=True):
        is_close = np.abs(crop.numpy() - pillow_crop(sources[image], box, side, side)) <= 1
        assert is_close.mean() >= 0.999, box


@pytest.mark.parametrize("box", [(5, 5, 6, 6), (0, 0, 1, 150), (0, 10, 220, 11), (218, 148, 220, 150)])
def test_small_and_thin_boxes_equal_pillow(box):
    sources = sample_images()
    images = torch.tensor(sources).permute(0, 3, 1, 2)
    crop = crop_resize(
        images,
        torch.tensor([1]),
        torch.tensor([box]),
        32,
        resized=torch.tensor([[32, 32]]),
        offset=torch.tensor([[0, 0]]),
    )
    assert np.abs(crop[0].numpy() - pillow_crop(sources[1], box, 32, 32)).max() <= 1


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 resizes along x first, whatever the box")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other builds of Pillow may fuse operations")
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_bitwise_equal_to_pillow(interpolation):
    sources = sample_images()
    images = torch.tensor(sources).permute(0, 3, 1, 2)
    generator = np.random.default_rng(5)
    for number, box in enumerate(random_boxes(60, 1, 5)):
        height, width = generator.integers(1, 200, 2).tolist()
        side = max(height, width)
        crop = crop_resize(
            images,
            torch.tensor([number % 2]),
            box[None],
            side,
            resized=torch.tensor([[height, width]]),
            offset=torch.tensor([[0, 0]]),
            interpolation=interpolation,
        )
        pillow_image = Image.fromarray(sources[number % 2]).crop(tuple(box.tolist()))
        resized = np.asarray(pillow_image.resize((width, height), Image.Resampling[interpolation.upper()]))
        assert np.array_equal(crop[0, :, :height, :width].numpy(), resized.transpose(2, 0, 1)), (box, height, width)


def test_many_taps():
    """An image much larger than the crop: more taps than a float32 sum of weights can represent."""
    image = np.random.default_rng(6).integers(0, 256, (2, 7680, 3), dtype=np.uint8)
    crop = crop_resize(
        torch.tensor(image).permute(2, 0, 1)[None],
        torch.tensor([0]),
        torch.tensor([[0, 0, 7680, 2]]),
        5,
        resized=torch.tensor([[5, 5]]),
        offset=torch.tensor([[0, 0]]),
    )
    assert np.abs(crop[0].numpy() - pillow_crop(image, (0, 0, 7680, 2), 5, 5)).max() == 0


def test_window_of_a_resized_box():
    """One window crops the center of a box, another pads a box with the fill color."""
    sources = sample_images()
    images = torch.tensor(sources).permute(0, 3, 1, 2)
    boxes = torch.tensor([[10, 20, 110, 70], [10, 20, 110, 70]])
    crops = crop_resize(
        images,
        torch.tensor([0, 1]),
        boxes,
        40,
        resized=torch.tensor([[40, 80], [20, 40]]),
        offset=torch.tensor([[0, 20], [-10, 0]]),
        fill=7,
    )
    cut = pillow_crop(sources[0], boxes[0], 40, 80)[:, :, 20:60]
    assert np.abs(crops[0].numpy() - cut).max() <= 1
    padded = np.full((3, 40, 40), 7)
    padded[:, 10:30] = pillow_crop(sources[1], boxes[1], 20, 40)
    assert np.abs(crops[1].numpy() - padded).max() <= 1


def test_independent_of_canvas_padding_and_batch():
    images = torch.tensor(sample_images()).permute(0, 3, 1, 2)
    boxes = random_boxes(6, 8, 3)
    window = {"resized": torch.full((6, 2), 48), "offset": torch.zeros(6, 2).long()}
    together = crop_resize(images, torch.tensor([0, 1, 0, 1, 0, 1]), boxes, 48, **window)
    canvas = torch.full((1, 3, HEIGHT + 30, WIDTH + 77), 200, dtype=torch.uint8)
    canvas[0, :, :HEIGHT, :WIDTH] = images[1]
    for n in (1, 3, 5):
        one = {key: value[:1] for key, value in window.items()}
        assert torch.equal(crop_resize(canvas, torch.tensor([0]), boxes[n : n + 1], 48, **one)[0], together[n])


def arguments(**changes) -> dict:
    """Return the arguments of a valid call, with changes."""
    one = {
        "images": torch.zeros(1, 3, 9, 9, dtype=torch.uint8),
        "image_index": torch.tensor([0]),
        "boxes": torch.tensor([[0, 0, 9, 9]]),
        "side": 8,
        "resized": torch.full((1, 2), 8),
        "offset": torch.zeros(1, 2).long(),
    }
    return {**one, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(1, 3, 9, 9)}, "images must be .* uint8"),
        ({"image_index": torch.zeros(2).long()}, "image_index must be"),
        ({"boxes": torch.zeros(1, 4)}, "boxes must be .*int64"),
        ({"resized": torch.full((1, 3), 8)}, "resized must be"),
        ({"offset": torch.zeros(1, 2)}, "offset must be"),
        ({"interpolation": "lanczos"}, "bicubic, bilinear"),
        ({"dtype": torch.float64}, "float16 or torch.bfloat16"),
        (
            {"mask": RegionMask(torch.zeros(1, 9, 8).int(), torch.tensor([[0, 1]]), (0, 0, 0))},
            "mask.region_map must be",
        ),
        ({"mask": RegionMask(torch.zeros(1, 9, 9).int(), torch.tensor([0, 1]), (0, 0, 0))}, "mask.spans must be"),
        ({"backend": "cuda"}, "backend must be"),
    ],
)
def test_invalid_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        crop_resize(**arguments(**changes))


def test_mask_and_normalization_equal_numpy():
    """Mask, normalization, dtype and memory format, compared with NumPy on the plain crop."""
    images = torch.tensor(sample_images()).permute(0, 3, 1, 2)
    boxes = random_boxes(4, 8, 7)
    window = {"resized": torch.tensor([[20, 48]] * 4), "offset": torch.tensor([[-3, 10]] * 4), "fill": 9}
    generator = np.random.default_rng(7)
    region_map = torch.tensor(generator.integers(0, 4, (2, HEIGHT, WIDTH)), dtype=torch.int32)
    index, spans = torch.tensor([0, 1, 0, 1]), torch.tensor([[0, 1], [1, 4], [1, 1], [0, 3]])
    plain = crop_resize(images, index, boxes, 32, **window).numpy().astype(float)
    masks = crop_masks(region_map, index, spans, boxes, 32, window["resized"], window["offset"])[:, None].numpy()
    color, mean, std = (12.5, 100, 200), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 2**-11), (torch.bfloat16, 2**-8)):
        found = crop_resize(
            images,
            index,
            boxes,
            32,
            mask=RegionMask(region_map, spans, color),
            normalisation=Normalisation(mean, std),
            dtype=dtype,
            memory_format=torch.channels_last,
            **window,
        )
        masked = np.where(masks, plain, np.reshape(color, (3, 1, 1)))
        expected = (masked / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(found.float().numpy(), expected, rtol=tolerance, atol=1e-6)


def test_no_boxes():
    none = {"image_index": torch.zeros(0).long(), "boxes": torch.zeros(0, 4).long()}
    window = {"resized": torch.zeros(0, 2).long(), "offset": torch.zeros(0, 2).long()}
    assert crop_resize(**arguments(**none, **window)).shape == (0, 3, 8, 8)
