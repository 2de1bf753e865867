import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.models import efficientnet_b0

from oracles import pillow_resize
from ovsr_gpu import FeatureConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.network_batch import NetworkBatch
from ovsr_gpu.stages.features import IMAGENET, network_input, pixel_features

CPU = torch.device("cpu")


def image(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def blocks() -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return efficientnet_b0().features.eval()


def test_network_input_is_the_image_squashed_by_pillow_and_normalised():
    images = [image(50, 90, 0), image(200, 40, 1)]
    found = network_input(ImageBatch.of(images, CPU), 64)
    for one, source in zip(found, images, strict=True):
        squashed = pillow_resize(Image.fromarray(source), 64, 64) / 255
        expected = (squashed - IMAGENET.mean) / IMAGENET.std
        assert np.abs(one.numpy().transpose(1, 2, 0) - expected).max() <= 1.01 / 255 / min(IMAGENET.std)


@torch.no_grad()
def test_levels_have_unit_rms_on_one_grid(blocks):
    config = FeatureConfig(levels=(2, 4), input_size=64, grid_size=7)
    images = ImageBatch.of([image(60, 60, 0), image(30, 80, 1)], CPU)
    features = pixel_features(blocks, images, config, NetworkBatch(1))
    assert features.shape == (2, 24 + 80, 7, 7)
    for b in range(2):
        one = network_input(ImageBatch(images.pixels[b : b + 1], images.sizes[b : b + 1], None), 64)
        expected = []
        for level in (2, 4):
            raw = blocks[: level + 1](one)
            raw = raw / raw.double().square().mean().sqrt().float()
            expected.append(interpolate(raw, (7, 7), mode="bilinear", antialias=True)[0])
        torch.testing.assert_close(features[b], torch.cat(expected), rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("color", [0, 77, 255])
def test_one_color_has_no_features(blocks, color):
    plain = np.full((20, 30, 3), color, dtype=np.uint8)
    features = pixel_features(
        blocks, ImageBatch.of([plain, image(20, 30, 0)], CPU), FeatureConfig(input_size=64), NetworkBatch(2)
    )
    assert not features[0].any()
    assert features[1].any()
