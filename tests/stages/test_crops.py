import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import open_clip
import PIL
import pytest
import torch
from PIL import Image, ImageFilter

from oracles import pillow_resize
from ovsr_gpu import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.crop_resize import Normalisation, crop_masks
from ovsr_gpu.results import Regions
from ovsr_gpu.stages.crops import BLUR_SIGMA, context_boxes, region_crops, resize_window

CPU = torch.device("cpu")
SIDE = 48
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def clip_like(resize_mode: str = "squash") -> SimpleNamespace:
    color = [255 * mean for mean in MEAN]
    return SimpleNamespace(
        image_size=SIDE,
        normalisation=Normalisation(MEAN, STD),
        dtype=torch.float32,
        mean_color=color,
        resize_mode=resize_mode,
        fill_color=0,
    )


def sample_images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(120, 90), (60, 200)]]


def regions() -> Regions:
    boxes = [[10, 20, 50, 100], [0, 0, 90, 120], [70, 100, 90, 120], [5, 5, 105, 15], [100, 0, 200, 60]]
    return Regions(torch.tensor([0, 0, 0, 1, 1]), torch.tensor(boxes), torch.ones(5).long())


def crops_of(config: RegionConfig, clip: SimpleNamespace, region_map: torch.Tensor | None = None) -> torch.Tensor:
    """Crops in gray values 0..255."""
    images = ImageBatch.of(sample_images(), CPU)
    if region_map is None:
        region_map = torch.zeros(2, 120, 200, dtype=torch.int32)
    crops = region_crops(images, region_map, regions(), regions().spans(2), clip, config)
    return 255 * (crops * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None])


def boxes_by_hand(config: RegionConfig) -> list[tuple[int, int, int, int]]:
    grown = []
    for image, box in zip([0, 0, 0, 1, 1], regions().boxes.tolist(), strict=True):
        height, width = sample_images()[image].shape[:2]
        x0, y0, x1, y1 = box
        context = Fraction(str(config.context))
        dx, dy = (math.floor(context * side + Fraction(1, 2)) for side in (x1 - x0, y1 - y0))
        x0, y0, x1, y1 = max(x0 - dx, 0), max(y0 - dy, 0), min(x1 + dx, width), min(y1 + dy, height)
        if config.box == "square":
            side = max(x1 - x0, y1 - y0)
            w, h = min(side, width), min(side, height)
            x0 = min(max(x0 - (w - (x1 - x0)) // 2, 0), width - w)
            y0 = min(max(y0 - (h - (y1 - y0)) // 2, 0), height - h)
            x1, y1 = x0 + w, y0 + h
        grown.append((x0, y0, x1, y1))
    return grown


@pytest.mark.parametrize("box", ["squash", "square"])
@pytest.mark.parametrize("context", [0.0, 0.15, 3.0])
def test_boxes_and_crops_against_pillow(box, context):
    config = RegionConfig(box=box, context=context, background="keep")
    expected_boxes = boxes_by_hand(config)
    sizes = torch.tensor([[120, 90], [60, 200]])[regions().image_index]
    assert context_boxes(regions().boxes, sizes, config).tolist() == [list(one) for one in expected_boxes]
    found = crops_of(config, clip_like())
    for crop, image, where in zip(found, [0, 0, 0, 1, 1], expected_boxes, strict=True):
        resized = pillow_resize(Image.fromarray(sample_images()[image]).crop(where), SIDE, SIDE)
        difference = np.abs(crop.numpy().transpose(1, 2, 0) - resized)
        assert (difference <= 1.001).mean() >= 0.999


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 resizes along x first, whatever the box")
@pytest.mark.parametrize("resize_mode", ["squash", "shortest", "longest"])
def test_the_models_own_mode_against_open_clip(resize_mode):
    config = RegionConfig(box="open_clip", background="keep")
    preprocess = open_clip.image_transform(
        SIDE, is_train=False, mean=MEAN, std=STD, resize_mode=resize_mode, interpolation="bicubic"
    )
    found = crops_of(config, clip_like(resize_mode))
    for crop, image, where in zip(found, [0, 0, 0, 1, 1], boxes_by_hand(config), strict=True):
        expected = preprocess(Image.fromarray(sample_images()[image]).crop(where))
        expected = 255 * (expected * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None])
        assert ((crop - expected).abs() <= 1.001).float().mean() >= 0.999


def test_windows_of_odd_and_even_remainders():
    boxes = torch.tensor([[0, 0, 10, sides] for sides in range(10, 40)])
    for mode in ("shortest", "longest"):
        resized, offset = resize_window(boxes, 7, "open_clip", mode)
        assert bool((offset[:, 1].abs() <= 4).all()) and bool((resized.amin(1) >= 1).all())
        assert bool(((resized == 7).any(1)).all())


@pytest.mark.parametrize("resize_mode", ["squash", "shortest", "longest"])
def test_masks_against_loops(resize_mode):
    region_map = torch.randint(0, 3, (2, 120, 200), generator=torch.Generator().manual_seed(0)).int()
    boxes = torch.tensor(boxes_by_hand(RegionConfig()))
    resized, offset = resize_window(boxes, SIDE, "open_clip", resize_mode)
    spans = torch.tensor([[0, 1], [1, 3], [2, 2], [0, 2], [1, 2]])
    masks = crop_masks(region_map, regions().image_index, spans, boxes, SIDE, resized, offset)
    for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        (height, width), (top, left) = resized[n].tolist(), offset[n].tolist()
        for row, column in [(0, 0), (5, 40), (23, 24), (47, 47), (10, 0), (47, 13)]:
            y, x = row + top, column + left
            expected = False
            if 0 <= y < height and 0 <= x < width:
                source_y = y0 + int((y + 0.5) * (y1 - y0) / height)
                source_x = x0 + int((x + 0.5) * (x1 - x0) / width)
                first, end = spans[n].tolist()
                expected = first <= int(region_map[regions().image_index[n], source_y, source_x]) < end
            assert bool(masks[n, row, column]) == expected


def test_backgrounds():
    region_map = torch.zeros(2, 120, 200, dtype=torch.int32)
    region_map[0, :, 30:] = 1  # region 0 of the first image: its left part
    kept = crops_of(RegionConfig(background="keep"), clip_like())
    mean = crops_of(RegionConfig(background="mean"), clip_like(), region_map)
    blurred = crops_of(RegionConfig(background="blur"), clip_like(), region_map)
    inside = torch.isclose(mean[0], kept[0], atol=1e-3).all(0)
    assert inside[:, : SIDE // 2 - 6].all() and not inside[:, SIDE // 2 + 6 :].all(0).any()
    color = 255 * torch.tensor(MEAN)
    torch.testing.assert_close(mean[0][:, ~inside], color[:, None].expand(-1, int((~inside).sum())), rtol=0, atol=1e-3)
    torch.testing.assert_close(blurred[0][:, inside], kept[0][:, inside])
    image = Image.fromarray(kept[0].permute(1, 2, 0).round().byte().numpy())
    expected = np.asarray(image.filter(ImageFilter.GaussianBlur(BLUR_SIGMA * SIDE)), dtype=float)
    center = np.abs(blurred[0].numpy().transpose(1, 2, 0) - expected)[12:-12, 32:-8]
    assert center.max() < 16  # Pillow's blur is a stack of box filters


def test_context_is_inside_the_image():
    boxes = torch.tensor([[0, 0, 1, 1], [3, 3, 4, 4]])
    grown = context_boxes(boxes, torch.tensor([[1, 1], [4, 4]]), RegionConfig(context=10, box="square"))
    assert grown.tolist() == [[0, 0, 1, 1], [0, 0, 4, 4]]
