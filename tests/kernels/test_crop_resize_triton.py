"""The Triton crops are bitwise equal to those of the torch backend."""

import pytest
import torch

from ovsr_gpu.kernels.crop_resize import Normalisation, RegionMask, crop_resize

pytest.importorskip("triton", reason="the Triton kernels need triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # on the CPU, the kernels run in Triton's interpreter
HEIGHT, WIDTH = 40, 70
BOXES = [
    (5, 5, 6, 6),
    (69, 0, 70, 40),
    (0, 10, 70, 11),
    (0, 0, 70, 40),
    (30, 0, 34, 40),  # resized vertically first
    (10, 10, 20, 18),
    (3, 2, 60, 35),
]
WINDOWS = {  # side, resized, offset
    "whole": (12, (12, 12), (0, 0)),
    "enlarged, partly visible": (12, (45, 90), (11, 60)),
    "padded": (12, (7, 5), (-2, -4)),
    "padded above, cut at the left": (12, (9, 30), (-5, 8)),
    "outside the box": (12, (8, 8), (0, 8)),
    "one line": (12, (1, 1), (0, -11)),
    "one pixel": (1, (3, 3), (1, 1)),
    "wider than a tile": (70, (70, 70), (0, 0)),
}
FINISH = {"normalisation": Normalisation((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)), "memory_format": torch.channels_last}


def call(window: str, backend: str, boxes=BOXES, **options) -> torch.Tensor:
    side, resized, offset = WINDOWS[window]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    region_map = torch.randint(0, 4, (2, HEIGHT, WIDTH), dtype=torch.int32, generator=generator)
    index = torch.arange(len(boxes)) % 2
    if options.pop("masked", False):
        first = index // 2 % 4
        spans = torch.stack([first, first + 1 + index], dim=1)  # one or two region numbers
        options["mask"] = RegionMask(region_map.to(DEVICE), spans.to(DEVICE), (122.5, 116, 104.25))
    return crop_resize(
        images.to(DEVICE),
        index.to(DEVICE),
        torch.tensor(boxes).to(DEVICE),
        side,
        resized=torch.tensor([resized] * len(boxes)).to(DEVICE),
        offset=torch.tensor([offset] * len(boxes)).to(DEVICE),
        fill=7,
        backend=backend,
        **options,
    )


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("window", WINDOWS)
def test_equals_torch(window, interpolation):
    boxes = BOXES[3:5] if window == "wider than a tile" else BOXES
    found = call(window, "triton", boxes, interpolation=interpolation)
    assert torch.equal(found, call(window, "torch", boxes, interpolation=interpolation))


@pytest.mark.parametrize("window", ["whole", "padded above, cut at the left"])
def test_mask_and_normalization(window):
    expected = call(window, "torch", masked=True, **FINISH)
    found = call(window, "triton", masked=True, **FINISH)
    assert found.stride() == expected.stride()
    # On CUDA, torch divides by a number by multiplying with its reciprocal.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if DEVICE == "cuda" else 0)
    masked_only = call(window, "triton", masked=True)
    assert torch.equal(masked_only, call(window, "torch", masked=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    full = call("whole", "triton", BOXES[3:5], masked=True, **FINISH)
    found = call("whole", "triton", BOXES[3:5], masked=True, dtype=dtype, **FINISH)
    if DEVICE == "cpu" and dtype == torch.bfloat16:  # Triton's interpreter truncates the lower bits
        full = (full.view(torch.int32) & ~0xFFFF).view(torch.float32)
    assert torch.equal(found, full.to(dtype))


def test_windows_of_regions_are_independent():
    """The tables of weights and the intermediate images are adjacent in memory and must not overlap."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (1, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor(BOXES)
    resized = torch.randint(1, 30, (len(boxes), 2), generator=generator)
    offset = torch.randint(-6, 12, (len(boxes), 2), generator=generator)
    tensors = [tensor.to(DEVICE) for tensor in (images, torch.zeros(len(boxes)).long(), boxes)]
    window = {"resized": resized.to(DEVICE), "offset": offset.to(DEVICE)}
    found = crop_resize(*tensors, 10, backend="triton", **window)
    assert torch.equal(found, crop_resize(*tensors, 10, backend="torch", **window))


def test_no_boxes():
    none = torch.zeros(0, 4).long().to(DEVICE)
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8, device=DEVICE)
    window = {"resized": none[:, :2], "offset": none[:, :2]}
    assert crop_resize(images, none[:, 0], none, 8, backend="triton", **window).shape == (0, 3, 8, 8)


@pytest.mark.gpu
def test_large_images_equal_torch_on_the_cpu():
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (1, 3, 4320, 7680), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[0, 0, 7680, 4320], [0, 0, 300, 4320], [100, 7, 420, 247], [7679, 4319, 7680, 4320]])
    tensors = (images, torch.zeros(4).long(), boxes)
    window = {"resized": torch.full((4, 2), 224), "offset": torch.zeros(4, 2).long()}
    expected = crop_resize(*tensors, 224, **window)
    on_device = {name: tensor.cuda() for name, tensor in window.items()}
    found = crop_resize(*(tensor.cuda() for tensor in tensors), 224, **on_device)
    assert torch.equal(found.cpu(), expected)


@pytest.mark.gpu
def test_no_host_synchronization():
    images = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8, device="cuda")
    index = torch.tensor([0, 1], device="cuda")
    boxes = torch.tensor(BOXES[3:5], device="cuda")
    window = {"resized": torch.full_like(boxes[:, :2], 48), "offset": torch.zeros_like(boxes[:, :2])}
    mask = RegionMask(torch.zeros(2, HEIGHT, WIDTH, dtype=torch.int32, device="cuda"), boxes[:, :2], (1, 2, 3))
    crop_resize(images, index, boxes, 48, mask=mask, **window, **FINISH)  # warm-up: compilation
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            index[0].item()
        crop_resize(images, index, boxes, 48, mask=mask, **window, **FINISH)
    finally:
        torch.cuda.set_sync_debug_mode("default")
