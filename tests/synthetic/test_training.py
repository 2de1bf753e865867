"""Parts of the training, and a very short run; test_figures.py checks the scores of the shipped weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ovsr_gpu.synthetic import train, train_backbone, train_clip
from ovsr_gpu.synthetic.scenes import CLASSES, UNSEEN_COMBINATIONS, make_scene
from ovsr_gpu.synthetic.schedule import shuffled_batches, warmup_cosine
from ovsr_gpu.synthetic.train_backbone import MARGIN, region_grid, ward_loss
from ovsr_gpu.synthetic.train_clip import (
    CAPTION_FORMATS,
    MAX_CAPTION_DROPOUT,
    caption_vocabulary,
    format_caption,
    sample_texts,
)
from ovsr_gpu.vocabulary import SOMETHING_ELSE


def test_ward_loss_is_zero_for_regions_of_one_value_far_apart() -> None:
    regions = torch.tensor([[[0, 0], [1, 1]]])
    assert ward_loss(regions[:, None].float(), regions).item() == pytest.approx(0)


def test_ward_loss_by_hand() -> None:
    """Values 0, 2 | 1, 3: total 5, within 2 + 2, the merge costs 2 * 2 / 4 * 1 = 1, a fraction of 0.2."""
    features, regions = torch.tensor([[[[0.0, 2.0, 1.0, 3.0]]]]), torch.tensor([[[0, 0, 1, 1]]])
    assert MARGIN < 0.2
    assert ward_loss(features, regions).item() == pytest.approx(4 / 5)
    closer = torch.tensor([[[[0.0, 2.0, 0.5, 2.5]]]])  # total 4.25, within 4, merge 0.25
    expected = 4 / 4.25 + (1 - 0.25 / 4.25 / MARGIN)
    assert ward_loss(closer, regions).item() == pytest.approx(expected, rel=1e-5)
    both = ward_loss(torch.cat([features, closer]), torch.cat([regions, regions])).item()
    assert both == pytest.approx((4 / 5 + expected) / 2, rel=1e-5)


def test_region_grid_takes_the_region_under_each_center() -> None:
    scene = make_scene(3)
    grid = region_grid(scene, 40)
    assert grid.shape == (40, 40) and set(grid.unique().tolist()) == set(range(int(grid.max()) + 1))
    expected = [(scene.instance_map[y, x], scene.labels[y, x]) for y in range(3, 288, 36) for x in range(4, 384, 48)]
    cells = [int(grid[int(y / 7.2), int(x / 9.6)]) for y in range(3, 288, 36) for x in range(4, 384, 48)]
    assert len(set(zip(expected, cells, strict=True))) == len(set(expected)) == len(set(cells))


def test_learning_rate_rises_and_falls() -> None:
    rates = [warmup_cosine(step, 200) for step in range(200)]
    assert max(rates) <= 1.0 and np.argmax(rates) == 10 and rates[0] < 0.2 and rates[-1] < 0.001


def test_captions_name_objects_by_their_form_and_backgrounds_by_name() -> None:
    star = {"pattern": "striped", "color": "red", "shape": "star"}
    assert format_caption("{pattern} {shape}", star) == "striped star"
    assert format_caption("{color} {shape}", {"pattern": "", "color": "", "shape": "sand"}) == "sand"
    assert sorted(caption_vocabulary("{shape}")) == sorted(CLASSES)
    named = caption_vocabulary("{color} {shape}")
    assert len(named) == len(set(named)) == 84 + 7
    assert not {" ".join(pair) for pair in UNSEEN_COMBINATIONS} & set(named)
    assert sum(CAPTION_FORMATS.values()) == pytest.approx(1)


def test_sampled_texts_drop_some_captions_and_end_with_something_else() -> None:
    rng = np.random.default_rng(0)
    kept_fractions = []
    for _ in range(50):
        texts, text_index = sample_texts(CLASSES, rng)
        assert texts[-1] == SOMETHING_ELSE and len(texts) == len(text_index) + 1
        assert all(name in texts[index] for name, index in text_index.items())
        kept_fractions.append(len(text_index) / len(CLASSES))
    assert 1 - MAX_CAPTION_DROPOUT < np.mean(kept_fractions) < 1


def test_shuffled_batches_take_each_index_once_per_epoch() -> None:
    batches = shuffled_batches(7, 3, np.random.default_rng(0))
    for _ in range(3):
        first, second = next(batches), next(batches)
        assert len({*first, *second}) == 6


def test_a_short_training_writes_the_same_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    # The training changes this setting of the process, which other tests share.
    request.addfinalizer(partial(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()))
    monkeypatch.setattr(train, "NUM_BACKBONE_SCENES", 8)
    monkeypatch.setattr(train, "NUM_CLIP_SCENES", 4)
    monkeypatch.setattr(train_backbone, "EPOCHS", 1)
    monkeypatch.setattr(train_backbone, "BATCH_SIZE", 4)
    monkeypatch.setattr(train_clip, "NUM_STEPS", 2)
    monkeypatch.setattr(train_clip, "BATCH_SIZE", 8)
    written = []
    for name in ("first", "second"):
        train.train(tmp_path / name)
        files = sorted(file for file in (tmp_path / name).rglob("*") if file.is_file())
        written.append({str(file.relative_to(tmp_path / name)): file.read_bytes() for file in files})
    assert written[0] == written[1]
    assert len(written[0]) == 4 and all(written[0].values())
