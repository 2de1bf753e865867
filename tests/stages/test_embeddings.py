"""Region embeddings by both encoders: pooling against plain loops, and both inside the whole method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cosine_similarity, normalize

from ovsr_gpu import Config, FeatureConfig, ModelError, RegionConfig, Segmenter
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.clip import ClipModel, load_clip
from ovsr_gpu.models.dense_tower import dense_tower
from ovsr_gpu.models.network_batch import NetworkBatch
from ovsr_gpu.results import Regions
from ovsr_gpu.stages.crops import region_crops
from ovsr_gpu.stages.dense_embeddings import cell_fractions, pool_patches
from ovsr_gpu.stages.embeddings import embed_regions
from ovsr_gpu.stages.features import network_input

CPU = torch.device("cpu")
DENSE = RegionConfig(encoder="dense")
SMALL = FeatureConfig(input_size=96, grid_size=12)


def regions_of(maps: list[np.ndarray]) -> Regions:
    """The regions of number maps, measured with plain loops."""
    index, boxes, areas = [], [], []
    for image, one in enumerate(maps):
        for number in range(one.max() + 1):
            rows, columns = np.nonzero(one == number)
            index.append(image)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            areas.append(len(rows))
    return Regions(torch.tensor(index), torch.tensor(np.array(boxes)), torch.tensor(areas))


def on_canvas(maps: list[np.ndarray], outside: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = [one.shape for one in maps]
    canvas = torch.full((len(maps), *np.max(sizes, axis=0)), outside, dtype=torch.int32)
    for slot, one in zip(canvas, maps, strict=True):
        slot[: one.shape[0], : one.shape[1]] = torch.tensor(one)
    return canvas, torch.tensor(sizes)


def fractions_by_hand(one: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """`[n, h, w]`: pixels of each region over pixels of each cell, by the pixels' centers."""
    counts = np.zeros((one.max() + 1, *grid))
    for y in range(one.shape[0]):
        for x in range(one.shape[1]):
            row = int((y + 0.5) / one.shape[0] * grid[0])
            column = int((x + 0.5) / one.shape[1] * grid[1])
            counts[one[y, x], row, column] += 1
    return counts / np.maximum(counts.sum(0), 1)


def random_map(height: int, width: int, regions: int, seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).integers(0, regions, (height, width))
    numbers.flat[:regions] = np.arange(regions)  # each occurs
    return numbers


def random_batch(sizes: list[tuple[int, int]], seed: int = 0) -> ImageBatch:
    generator = np.random.default_rng(seed)
    return ImageBatch.of([generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes], CPU)


def write_clip(folder: Path, tower: str, **vision: Any) -> str:
    """A CLIP with that image tower of timm and random weights, as the name that `load_clip` takes."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": tower, "timm_pool": "avg", **vision},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def averaging_clip(tmp_path_factory: pytest.TempPathFactory) -> ClipModel:
    """A convolutional image tower that averages its 3x3 positions, with a head that is not linear."""
    folder = tmp_path_factory.mktemp("averaging-clip")
    return load_clip(write_clip(folder, "test_efficientnet", timm_proj="mlp", image_size=96), None, CPU)


@pytest.mark.parametrize("grid", [(3, 5), (1, 1), (7, 7), (14, 14)])
def test_fractions_of_ragged_regions_against_loops(grid):
    maps = [
        random_map(20, 31, 6, seed=0),
        random_map(9, 8, 1, seed=1),
        random_map(3, 40, 4, seed=2),  # fewer rows than cells
        random_map(1, 1, 1, seed=3),
    ]
    canvas, sizes = on_canvas(maps)
    expected = np.concatenate([fractions_by_hand(one, grid) for one in maps])
    found = cell_fractions(canvas, regions_of(maps), sizes, grid)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    garbage, _ = on_canvas(maps, outside=2**30)
    assert torch.equal(cell_fractions(garbage, regions_of(maps), sizes, grid), found), (
        "values outside the image are arbitrary"
    )


@pytest.mark.gpu
def test_fractions_on_a_gpu():
    maps = [random_map(200, 310, 6, seed=0), random_map(90, 80, 1, seed=1)]
    (canvas, sizes), regions = on_canvas(maps), regions_of(maps)
    there = Regions(regions.image_index.cuda(), regions.boxes.cuda(), regions.areas.cuda())
    found = cell_fractions(canvas.cuda(), there, sizes.cuda(), (7, 7))
    assert torch.equal(found.cpu(), cell_fractions(canvas, regions, sizes, (7, 7)))


def test_one_region_covers_every_cell_entirely():
    canvas, sizes = on_canvas([np.zeros((213, 320), np.int64)])
    fractions = cell_fractions(canvas, regions_of([canvas[0].numpy()]), sizes, (5, 5))
    assert torch.equal(fractions, torch.ones(1, 5, 5))


def test_pooling_against_loops():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, 2, 3, generator=generator)
    fractions = torch.rand(5, 2, 3, generator=generator)
    index = torch.tensor([0, 0, 1, 2, 2])
    expected = []
    for fraction, image in zip(fractions.double(), index, strict=True):
        total = sum(fraction[y, x] * features[image, :, y, x].double() for y in range(2) for x in range(3))
        expected.append(total / fraction.sum())
    for batch in (1, 2, 64):
        found = pool_patches(features, fractions, index, batch)
        torch.testing.assert_close(found.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_dense_embeddings_against_positions_pooled_by_hand(tiny_clip):
    clip = load_clip(tiny_clip, None, CPU)
    sizes = [(40, 61), (33, 20), (64, 64)]
    images = random_batch(sizes)
    maps = [random_map(*size, regions, seed=regions) for size, regions in zip(sizes, (5, 1, 2), strict=True)]
    found = embed_regions(clip, images, on_canvas(maps)[0], regions_of(maps), DENSE, NetworkBatch(2))
    tower = dense_tower(clip)
    features = tower.features(network_input(images, clip.image_size, clip.normalisation))
    expected = []
    for one, positions in zip(maps, features.double().flatten(2), strict=True):
        fractions = torch.tensor(fractions_by_hand(one, tuple(features.shape[2:]))).flatten(1)
        expected += [(positions * fraction).sum(1) / fraction.sum() for fraction in fractions]
    expected = normalize(tower.head(torch.stack(expected).float()), dim=1)
    assert found.shape == (8, 32) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(8))


def test_the_whole_image_as_one_region_gives_the_image_embedding_of_an_averaging_tower(averaging_clip):
    clip = averaging_clip
    sizes = [(213, 320), (50, 50)]
    images = random_batch(sizes)
    maps = [np.zeros(size, np.int64) for size in sizes]
    found = embed_regions(clip, images, on_canvas(maps)[0], regions_of(maps), DENSE, NetworkBatch(1))
    own = clip.encode_image(network_input(images, clip.image_size, clip.normalisation))
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)


def test_each_half_of_an_image_gets_the_patches_of_its_half():
    features = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    halves = np.zeros((16, 24), np.int64)
    halves[:, 12:] = 1
    canvas, sizes = on_canvas([halves])
    regions = regions_of([halves])
    pooled = pool_patches(features, cell_fractions(canvas, regions, sizes, (4, 4)), regions.image_index, 8)
    torch.testing.assert_close(pooled[0], features[0, :, :, :2].mean((1, 2)))
    torch.testing.assert_close(pooled[1], features[0, :, :, 2:].mean((1, 2)))
    torch.testing.assert_close(pooled.mean(0), features[0].mean((1, 2)))


def test_a_region_of_one_pixel_is_the_position_under_it(averaging_clip):
    clip = averaging_clip
    images = random_batch([(90, 90)])
    numbers = np.zeros((90, 90), np.int64)
    numbers[85, 2] = 1
    found = embed_regions(clip, images, on_canvas([numbers])[0], regions_of([numbers]), DENSE, NetworkBatch(4))
    tower = dense_tower(clip)
    positions = tower.features(network_input(images, clip.image_size, clip.normalisation))
    torch.testing.assert_close(found[1:], normalize(tower.head(positions[:, :, 2, 0]), dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [RegionConfig(), DENSE], ids=["crop", "dense"])
def test_embeddings_do_not_depend_on_the_batch(tiny_clip, config):
    clip = load_clip(tiny_clip, None, CPU)
    sizes = [(40, 61), (33, 20), (64, 64)]
    images = random_batch(sizes)
    maps = [random_map(*size, regions, seed=regions) for size, regions in zip(sizes, (5, 1, 2), strict=True)]
    together = embed_regions(clip, images, on_canvas(maps)[0], regions_of(maps), config, NetworkBatch(64))
    alone = []
    for place, (size, one) in enumerate(zip(sizes, maps, strict=True)):
        image = ImageBatch.of([images.pixels[place, :, : size[0], : size[1]]], CPU)
        alone.append(embed_regions(clip, image, on_canvas([one])[0], regions_of([one]), config, NetworkBatch(1)))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    again = embed_regions(clip, images, on_canvas(maps)[0], regions_of(maps), config, NetworkBatch(64))
    assert torch.equal(together, again)


def test_several_backgrounds_give_their_mean_direction(tiny_clip):
    clip = load_clip(tiny_clip, None, CPU)
    images, maps = random_batch([(40, 61), (33, 20)]), [random_map(40, 61, 3, seed=0), random_map(33, 20, 2, seed=1)]
    around = (images, on_canvas(maps)[0], regions_of(maps))
    found = embed_regions(clip, *around, RegionConfig(background=("mean", "blur", "keep")), NetworkBatch(2))
    alone = [
        embed_regions(clip, *around, RegionConfig(background=one), NetworkBatch(2)) for one in ("mean", "blur", "keep")
    ]
    mean = torch.stack(alone).double().mean(0)
    torch.testing.assert_close(found.double(), mean / mean.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-6)


def test_crop_embeddings_are_those_of_the_crops(tiny_clip):
    clip = load_clip(tiny_clip, None, CPU)
    images = random_batch([(40, 61), (33, 20)])
    maps = [random_map(40, 61, 3, seed=0), random_map(33, 20, 2, seed=1)]
    canvas, regions = on_canvas(maps)[0], regions_of(maps)
    crops = region_crops(images, canvas, regions, regions.spans(2), clip, RegionConfig())
    found = embed_regions(clip, images, canvas, regions, RegionConfig(), NetworkBatch(2))
    torch.testing.assert_close(found, clip.encode_image(crops), rtol=1e-4, atol=1e-5)


def test_the_whole_method_with_dense_embeddings(make_segmenter):
    images = torch.randint(0, 256, (3, 3, 6, 8), generator=torch.Generator().manual_seed(0))
    images = images.repeat_interleave(12, dim=2).repeat_interleave(12, dim=3).to(torch.uint8)
    crop = make_segmenter(Config(features=SMALL))(images, "dog; grass; sky")
    dense = make_segmenter(Config(features=SMALL, regions=DENSE))(images, "dog; grass; sky", timings=True)
    assert torch.equal(dense.region_map, crop.region_map)
    assert dense.regions.embeddings.shape == crop.regions.embeddings.shape
    assert cosine_similarity(dense.regions.embeddings, crop.regions.embeddings).max() < 0.999
    assert "crops" not in dense.timings and dense.timings["image embeddings"] > 0
    settings = replace(DENSE, context=2.0, box="square", background="keep")
    other = make_segmenter(Config(features=SMALL, regions=settings))(images, "dog; grass; sky")
    assert torch.equal(other.regions.embeddings, dense.regions.embeddings), "crop settings have no effect"


def test_a_segmenter_refuses_a_tower_without_positions(tmp_path: Path, random_backbone):
    clip = write_clip(tmp_path, "test_vit", image_size=160)
    with pytest.raises(ModelError, match=r"use regions\.encoder 'crop'"):
        Segmenter.from_pretrained(Config(regions=DENSE), backbone_weights=random_backbone, clip=clip, device="cpu")


def test_unknown_encoder():
    with pytest.raises(ValueError, match=r"regions\.encoder must be one of 'crop', 'dense'; got 'tokens'"):
        RegionConfig(encoder="tokens")
