"""The training's parts, and a very short run of it; what the shipped weights reach is in test_figures.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ovsr_gpu.synthetic import train, train_backbone, train_clip
from ovsr_gpu.synthetic.scenes import CLASSES, UNSEEN_COMBINATIONS, make_scene
from ovsr_gpu.synthetic.schedule import shuffled, warmed_cosine
from ovsr_gpu.synthetic.train_backbone import MARGIN, region_grid, ward_loss
from ovsr_gpu.synthetic.train_clip import CAPTIONS, MAX_LEFT_OUT, caption, caption_vocabulary, draw_captions
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


def test_region_grid_takes_the_region_under_each_centre() -> None:
    scene = make_scene(3)
    grid = region_grid(scene, 40)
    assert grid.shape == (40, 40) and set(grid.unique().tolist()) == set(range(int(grid.max()) + 1))
    true = [(scene.owners[y, x], scene.labels[y, x]) for y in range(3, 288, 36) for x in range(4, 384, 48)]
    cells = [int(grid[int(y / 7.2), int(x / 9.6)]) for y in range(3, 288, 36) for x in range(4, 384, 48)]
    assert len(set(zip(true, cells, strict=True))) == len(set(true)) == len(set(cells))


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [warmed_cosine(step, 200) for step in range(200)]
    assert max(rates) <= 1.0 and np.argmax(rates) == 10 and rates[0] < 0.2 and rates[-1] < 0.001


def test_captions_name_objects_by_their_form_and_grounds_by_name() -> None:
    star = {"pattern": "striped", "color": "red", "shape": "star"}
    assert caption("{pattern} {shape}", star) == "striped star"
    assert caption("{color} {shape}", {"pattern": "", "color": "", "shape": "sand"}) == "sand"
    assert sorted(caption_vocabulary("{shape}")) == sorted(CLASSES)
    named = caption_vocabulary("{color} {shape}")
    assert len(named) == len(set(named)) == 84 + 7
    assert not {" ".join(pair) for pair in UNSEEN_COMBINATIONS} & set(named)
    assert sum(CAPTIONS.values()) == pytest.approx(1)


def test_drawn_captions_leave_some_names_out_and_end_with_something_else() -> None:
    draws = np.random.default_rng(0)
    kept = []
    for _ in range(50):
        texts, place = draw_captions(CLASSES, draws)
        assert texts[-1] == SOMETHING_ELSE and len(texts) == len(place) + 1
        assert all(name in texts[index] for name, index in place.items())
        kept.append(len(place) / len(CLASSES))
    assert 1 - MAX_LEFT_OUT < np.mean(kept) < 1


def test_shuffled_batches_take_each_index_once_a_round() -> None:
    batches = shuffled(7, 3, np.random.default_rng(0))
    for _ in range(3):
        first, second = next(batches), next(batches)
        assert len({*first, *second}) == 6


def test_a_short_training_writes_the_same_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    # The training sets it for its whole process, which here is that of the other tests too.
    request.addfinalizer(partial(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()))
    monkeypatch.setattr(train, "BACKBONE_SCENES", 8)
    monkeypatch.setattr(train, "CLIP_SCENES", 4)
    monkeypatch.setattr(train_backbone, "EPOCHS", 1)
    monkeypatch.setattr(train_backbone, "BATCH", 4)
    monkeypatch.setattr(train_clip, "STEPS", 2)
    monkeypatch.setattr(train_clip, "BATCH", 8)
    written = []
    for name in ("first", "second"):
        train.train(tmp_path / name)
        files = sorted(file for file in (tmp_path / name).rglob("*") if file.is_file())
        written.append({str(file.relative_to(tmp_path / name)): file.read_bytes() for file in files})
    assert written[0] == written[1]
    assert len(written[0]) == 4 and all(written[0].values())
