from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ovsr_gpu import Config, FeatureConfig, ImageError, ModelConfig, RegionConfig, Segmenter, VocabularyError

CLASSES = "dog; grass, lawn; sky"
SMALL = FeatureConfig(input_size=96, grid_size=12)
STAGES = {"features", "latents", "linkage", "cluster count", "cut", "regions"}


def scene(height: int, width: int, seed: int) -> np.ndarray:
    """Rectangles of noisy color."""
    generator = np.random.default_rng(seed)
    image = np.empty((height, width, 3))
    image[:] = generator.integers(0, 256, 3)
    for _ in range(3):
        y, x = generator.integers(0, height), generator.integers(0, width)
        image[y : y + height // 2 + 1, x : x + width // 2 + 1] = generator.integers(0, 256, 3)
    return (image + generator.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def segmenter(make_segmenter) -> Segmenter:
    return make_segmenter(Config(features=SMALL))


def check_consistency(prediction, sizes: list[tuple[int, int]], labels: int) -> None:
    """Check what holds for every prediction, whatever the networks compute."""
    regions = prediction.regions
    numbers = regions.index_in_image(len(sizes))
    assert regions.image_index.tolist() == sorted(regions.image_index.tolist())
    torch.testing.assert_close(regions.probabilities.sum(1), torch.ones(len(regions)))
    assert torch.equal(regions.class_index, regions.probabilities.argmax(1))
    assert regions.probabilities.shape == (len(regions), labels + 1)
    torch.testing.assert_close(regions.embeddings.norm(dim=1), torch.ones(len(regions)))
    for b, region_map in enumerate(prediction.region_map):
        scores = regions.score[regions.image_index == b][region_map.long()]
        torch.testing.assert_close(prediction.uncertainty[b], 1 - scores.double().mean().float())
    for b, size in enumerate(sizes):
        region_map, class_map = prediction.region_map[b], prediction.class_map[b]
        assert tuple(region_map.shape) == tuple(class_map.shape) == size
        rows = (regions.image_index == b).nonzero()[:, 0]
        assert region_map.unique().tolist() == list(range(len(rows)))
        for n in rows.tolist():
            inside = region_map == numbers[n]
            assert int(inside.sum()) == int(regions.areas[n])
            y, x = inside.nonzero(as_tuple=True)
            assert regions.boxes[n].tolist() == [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
            assert class_map[inside].unique().tolist() == [int(regions.class_index[n])]


@pytest.mark.parametrize("preset", ["default", "paper", "quality", "fine"])
def test_list_of_different_sizes(make_segmenter, preset):
    sizes = [(60, 80), (120, 40), (33, 33), (1, 1), (3, 500)]
    segmenter = make_segmenter(Config(preset=preset, features=SMALL))
    prediction = segmenter([scene(*size, seed) for seed, size in enumerate(sizes)], CLASSES)
    assert prediction.classes == ("dog", "grass", "sky")
    assert isinstance(prediction.class_map, list)
    check_consistency(prediction, sizes, labels=3)


def test_tensor(segmenter):
    images = torch.tensor(np.stack([scene(50, 70, seed) for seed in range(3)])).permute(0, 3, 1, 2)
    prediction = segmenter(images, ["dog", ("grass", "lawn"), "sky"])
    assert prediction.class_map.shape == (3, 50, 70) and prediction.class_map.dtype == torch.int32
    assert prediction.singular_values.shape == (3, 144)
    assert prediction.cluster_count.shape == (3,)
    check_consistency(prediction, [(50, 70)] * 3, labels=3)


@pytest.mark.parametrize("preset", ["default", "fine"])
def test_two_stages_give_the_same_as_one_call(make_segmenter, preset):
    segmenter = make_segmenter(Config(preset=preset, features=SMALL))
    images = [scene(50, 70, 1), scene(90, 30, 2)]
    whole = segmenter(images, CLASSES)
    steps = segmenter.recognize(images, segmenter.segment(images), CLASSES)
    for one, other in zip([*whole.class_map, *whole.region_map], [*steps.class_map, *steps.region_map], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.regions.probabilities, steps.regions.probabilities)


def test_a_stream_is_a_call_for_each_batch_with_one_in_flight(segmenter):
    batches = [[scene(50, 70, 3 * n + i) for i in range(n + 1)] for n in range(3)]
    batch_sizes = []
    stream = segmenter.stream((batch_sizes.append(len(batch)) or batch for batch in batches), CLASSES)
    first = next(stream)
    assert batch_sizes == [1, 2]
    for streamed, batch in zip([first, *stream], batches, strict=True):
        called = segmenter(batch, CLASSES)
        assert all(map(torch.equal, streamed.class_map, called.class_map))
        assert all(map(torch.equal, streamed.region_map, called.region_map))
        assert torch.equal(streamed.regions.probabilities, called.regions.probabilities)
        assert streamed.classes == called.classes and streamed.timings == {}


def test_full_batches_have_one_shape_and_change_nothing(make_segmenter):
    images = [scene(50, 70, seed) for seed in range(6)]
    expected = make_segmenter(Config(features=SMALL))(images, CLASSES)
    segmenter = make_segmenter(Config(features=SMALL, models=ModelConfig(batch=4, full_batches=True)))
    seen = set()
    for network in (segmenter.backbone[0], segmenter.clip.image_tower):
        network.register_forward_pre_hook(lambda _, inputs: seen.add(tuple(inputs[0].shape)))
    found = segmenter(images, CLASSES)
    assert seen == {(4, 3, 96, 96), (4, 3, 32, 32)}
    assert all(map(torch.equal, found.class_map, expected.class_map))
    torch.testing.assert_close(found.regions.embeddings, expected.regions.embeddings)


@pytest.mark.parametrize("preset", ["default", "quality", "fine"])
def test_an_image_gets_the_same_labels_alone_and_in_any_batch(make_segmenter, preset):
    segmenter = make_segmenter(Config(preset=preset, features=SMALL))
    images = [scene(50 + 9 * seed, 90 - 7 * seed, seed) for seed in range(4)]
    alone = [segmenter([image], CLASSES) for image in images]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        together = segmenter([images[i] for i in order], CLASSES)
        for position, i in enumerate(order):
            assert torch.equal(together.region_map[position], alone[i].region_map[0])
            assert torch.equal(together.class_map[position], alone[i].class_map[0])


def test_an_image_of_one_color_is_one_region(segmenter):
    prediction = segmenter([np.full((40, 60, 3), 200, np.uint8), scene(40, 60, 0)], CLASSES)
    assert prediction.cluster_count[0] == 1
    assert not prediction.region_map[0].any()
    assert not prediction.singular_values[0].any()


def test_timings_on_request(segmenter):
    images = [scene(40, 40, 0)]
    assert segmenter.segment(images).timings == {}
    timed = segmenter.segment(images, timings=True)
    assert set(timed.timings) == STAGES and min(timed.timings.values()) > 0
    prediction = segmenter.recognize(images, timed, CLASSES, timings=True)
    assert set(prediction.timings) >= STAGES | {"crops", "image embeddings", "recognition", "class map"}
    assert set(timed.timings) == STAGES


def test_several_threads(segmenter):
    images = [scene(40 + seed, 50, seed) for seed in range(6)]
    vocabularies = [CLASSES, "cat; road"] * 3
    expected = [segmenter([image], classes) for image, classes in zip(images, vocabularies, strict=True)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda image, classes: segmenter([image], classes), images, vocabularies))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.class_map[0], other.class_map[0])


def test_many_regions_go_through_clip_in_parts(make_segmenter):
    from ovsr_gpu import ClusteringConfig

    fine = ClusteringConfig(count_rule="fixed", count_parameter=9)
    regions = RegionConfig(min_area=0, background="blur", box="square")
    images = [scene(60, 60, 3), scene(60, 60, 4)]
    parts, whole = (
        make_segmenter(Config(features=SMALL, clustering=fine, regions=regions, models=ModelConfig(batch=batch)))(
            images, CLASSES
        )
        for batch in (4, 64)
    )
    assert len(whole.regions) >= 18
    torch.testing.assert_close(parts.regions.embeddings, whole.regions.embeddings, atol=1e-5, rtol=0)


def test_bad_input(segmenter):
    with pytest.raises(VocabularyError):
        segmenter([scene(9, 9, 0)], [])
    with pytest.raises(ImageError):
        segmenter([], CLASSES)
    with pytest.raises(ImageError, match="belongs to other images"):
        segmenter.recognize([scene(9, 9, 0)], segmenter.segment([scene(8, 9, 0)]), CLASSES)


def test_results_are_ordinary_tensors(segmenter):
    """Not inference tensors: users may train on what they get."""
    prediction = segmenter([scene(20, 20, 0)], CLASSES)
    weight = torch.ones(32, requires_grad=True)
    (prediction.regions.embeddings @ weight).sum().backward()
    assert weight.grad is not None
    assert not prediction.regions.embeddings.requires_grad


def test_unknown_device(tiny_clip, random_backbone):
    with pytest.raises(ValueError, match="device must be"):
        Segmenter.from_pretrained(backbone_weights=random_backbone, clip=tiny_clip, device="abacus")
