from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from ovsr_gpu.synthetic.random_stream import RandomStream, soften
from ovsr_gpu.synthetic.scenes import (
    CLASSES,
    COMBINATIONS,
    FIRST_TRAINING_SEED,
    MIN_VISIBLE,
    SEEN_COMBINATIONS,
    TEST_SEEDS,
    UNSEEN_COMBINATIONS,
    VALIDATION_SEEDS,
    Scene,
    make_scene,
)
from ovsr_gpu.synthetic.shapes import SHAPES, polygon
from ovsr_gpu.synthetic.surfaces import BACKGROUNDS, COLORS, PATTERNS


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed) for seed in TEST_SEEDS[:40]]


def test_the_generator_is_frozen(scenes: list[Scene]) -> None:
    """Seeds 0 to 39, byte by byte; an intended change needs a new VERSION, and new models."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(scene.pixels.tobytes() + scene.labels.tobytes() + scene.instance_map.tobytes())
        digest.update(scene.caption.encode())
    assert digest.hexdigest() == "38d4c8c7459ccee7b0bf5b7e7dfdef50a910f47fcf7cde0cabf8b9b73e34e387"


def test_classes_combinations_and_seeds() -> None:
    assert len(SHAPES) >= 12 and len(COLORS) == 8 and len(PATTERNS) == 4 and len(BACKGROUNDS) == 7
    assert len(set(CLASSES)) == len(SHAPES) + len(BACKGROUNDS)
    assert sorted(SEEN_COMBINATIONS + UNSEEN_COMBINATIONS) == sorted(COMBINATIONS)
    assert {shape for _, shape in UNSEEN_COMBINATIONS} == set(SHAPES)
    assert {color for color, _ in UNSEEN_COMBINATIONS} == set(COLORS)
    assert len(TEST_SEEDS) == 200
    assert max(TEST_SEEDS) < min(VALIDATION_SEEDS) and max(VALIDATION_SEEDS) < FIRST_TRAINING_SEED


def test_ground_truth_is_consistent(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.pixels.shape == (288, 384, 3) and scene.pixels.dtype == np.uint8
        assert scene.labels.shape == scene.instance_map.shape == (288, 384)
        assert len({item.shape for item in scene.objects}) == len(scene.objects)
        assert set(np.unique(scene.instance_map)) == set(range(len(scene.objects) + 1))
        for instance, item in enumerate(scene.objects, 1):
            assert {CLASSES[label] for label in np.unique(scene.labels[scene.instance_map == instance])} == {item.shape}
            assert item.color in COLORS and item.pattern in PATTERNS
        backgrounds = {CLASSES[label] for label in np.unique(scene.labels[scene.instance_map == 0])}
        assert backgrounds <= set(scene.backgrounds) <= set(BACKGROUNDS)


def test_objects_occlude_each_other_but_none_is_hidden(scenes: list[Scene]) -> None:
    """Each object keeps at least the fraction MIN_VISIBLE of its area visible."""
    num_touching = 0
    for scene in scenes:
        for instance in range(1, len(scene.objects) + 1):
            area = np.count_nonzero(scene.instance_map == instance)
            assert area > 0.05 * MIN_VISIBLE * 288 * 288 * 0.17  # the thinnest shape at the minimum size
        borders = (
            (scene.instance_map[:, 1:] != scene.instance_map[:, :-1])
            & (scene.instance_map[:, 1:] > 0)
            & (scene.instance_map[:, :-1] > 0)
        )
        num_touching += bool(borders.any())
    assert num_touching > 10


def test_training_scenes_have_seen_combinations_only() -> None:
    for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 30):
        for item in make_scene(seed, SEEN_COMBINATIONS).objects:
            assert (item.color, item.shape) in SEEN_COMBINATIONS


def test_test_scenes_have_unseen_combinations_too(scenes: list[Scene]) -> None:
    pairs = [(item.color, item.shape) for scene in scenes for item in scene.objects]
    assert 0.05 < np.mean([pair in UNSEEN_COMBINATIONS for pair in pairs]) < 0.25


def test_captions(scenes: list[Scene]) -> None:
    scene = scenes[0]
    assert all(item.caption in scene.caption for item in scene.objects)
    assert scene.caption.endswith(" and ".join(scene.backgrounds)) and " on " in scene.caption


def test_region_contents(scenes: list[Scene]) -> None:
    scene = scenes[1]
    by_instance = scene.region_contents(scene.instance_map, len(scene.objects) + 1)
    assert [item for item, _ in by_instance[1:]] == list(scene.objects)
    assert all(fraction == 1 for _, fraction in by_instance[1:])
    assert by_instance[0][0].shape in scene.backgrounds and by_instance[0][0].caption == by_instance[0][0].shape
    (_, fraction), *_ = scene.region_contents(np.zeros_like(scene.labels), 1)
    assert fraction == pytest.approx(
        np.bincount(scene.instance_map.ravel() * 32 + scene.labels.ravel()).max() / scene.labels.size
    )


def test_two_processes_generate_the_same_scene() -> None:
    code = "from ovsr_gpu.synthetic.scenes import make_scene; print(make_scene(7).pixels.astype(int).sum())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == make_scene(7).pixels.astype(int).sum()


def test_scenes_need_neither_torch_nor_scipy() -> None:
    code = "import sys, ovsr_gpu.synthetic.scenes; print(sorted({'torch', 'scipy', 'PIL'} & set(sys.modules)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == "[]\n"


def test_random_numbers_stay_in_their_ranges() -> None:
    random = RandomStream(1, 2)
    assert {random.integer(3, 5) for _ in range(200)} == {3, 4, 5}
    assert sorted(random.sample("abcd", 4)) == list("abcd")
    units = random.uniform_array(100, 100)
    assert units.dtype == np.float32 and 0 <= units.min() < 0.01 and 0.99 < units.max() < 1
    cosine, sine = random.rotation(0.3)
    assert cosine**2 + sine**2 == pytest.approx(1)
    noise = random.smooth_noise(50, 70, 9, 7)
    assert noise.shape == (50, 70) and noise.dtype == np.float32 and noise.min() >= 0 and noise.max() < 1
    assert abs(np.diff(noise, axis=0)).max() < 0.25


def test_soften_keeps_constants_and_spreads_a_point() -> None:
    assert (soften(np.full((5, 6), 7, np.float32)) == 7).all()
    point = np.zeros((5, 5), np.float32)
    point[2, 2] = 16
    assert soften(point)[1:4, 1:4].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_polygon_agrees_with_half_planes() -> None:
    u, v = np.meshgrid(np.linspace(-1, 1, 41, dtype=np.float32), np.linspace(-1, 1, 41, dtype=np.float32))
    inside = polygon(u, v, [(-0.52, -0.52), (0.73, -0.52), (0.73, 0.41), (-0.52, 0.41)])
    assert (inside == ((u > -0.52) & (u < 0.73) & (v > -0.52) & (v < 0.41))).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_a_reasonable_size(shape: str) -> None:
    """The window of an object ends at 1.5 radii along each axis."""
    u, v = np.meshgrid(np.linspace(-1.5, 1.5, 301, dtype=np.float32), np.linspace(-1.5, 1.5, 301, dtype=np.float32))
    inside = SHAPES[shape](u, v)
    assert 0.15 < inside[(abs(u) <= 1) & (abs(v) <= 1)].mean() < 0.75
    assert not inside[np.hypot(u, v) > 1.45].any()
