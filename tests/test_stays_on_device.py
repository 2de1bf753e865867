"""Between the images and the class maps on the device, the host reads one number: the number of regions.

With ancestors it also reads their number.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from host_reads import NoHostReads
from ovsr_gpu import ClusteringConfig, Config, FeatureConfig, RecognitionConfig, RegionConfig, Vocabulary
from ovsr_gpu.config import COUNT_PARAMETERS
from ovsr_gpu.runtime.async_copy import PendingInteger

X = torch.tensor([0.0, 2.0, 1.0])
READING = {
    "item": lambda: X[0].item(),
    "branch": lambda: X.sum() if X[0] > 0 else X,
    "nonzero": lambda: X.nonzero(),
    "mask": lambda: X[X > 0],
    "assignment by mask": lambda: X.clone().__setitem__(X > 5, X[0]),
    "masked_select": lambda: X.masked_select(X > 0),
    "unique": lambda: X.unique(),
    "bincount": lambda: X.long().bincount(),
    "repeat_interleave": lambda: X.repeat_interleave(X.long()),
    "equal": lambda: torch.equal(X, X),
    "new_tensor": lambda: X.new_tensor([1.0]),
    "svd": lambda: torch.linalg.svd(X[:, None]),
    "eigh": lambda: torch.linalg.eigh(X[:, None] * X),
}


@pytest.mark.parametrize("call", READING.values(), ids=READING)
def test_the_guard_detects(call):
    with pytest.raises(AssertionError, match="would make the host wait"), NoHostReads():
        call()


def test_the_guard_counts_pending_integers_and_allows_the_rest():
    with NoHostReads() as guard:
        torch.where(X > 0, X, 0).sort().values[X.long()].sum()
        assert PendingInteger(X.long().sum()).read() == 3
    assert guard.num_pending_reads == 1


CONFIGS = {
    "default": Config(),
    "paper": Config(preset="paper"),
    "full graph": Config(clustering=ClusteringConfig(connectivity="full")),
    "threshold": Config(recognition=RecognitionConfig(threshold=0.5)),
    **{rule: Config(clustering=ClusteringConfig(count_rule=rule)) for rule in COUNT_PARAMETERS},
    **{box: Config(regions=RegionConfig(box=box)) for box in ("square", "open_clip")},
    **{background: Config(regions=RegionConfig(background=background)) for background in ("keep", "blur")},
    "dense": Config(regions=RegionConfig(encoder="dense")),
    "ancestors": Config(clustering=ClusteringConfig(count_parameter=0.01), regions=RegionConfig(ancestors=True)),
    "boundaries of the grid": Config(regions=RegionConfig(boundaries="grid")),
    "synonyms and background": Config(
        recognition=RecognitionConfig(
            something_else=(), synonyms="max", first_class_is_background=True, threshold=0.4, area_threshold=0.2
        ),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_host_reads_one_number(make_segmenter, config):
    segmenter = make_segmenter(replace(config, features=FeatureConfig(input_size=96, grid_size=12)))
    images = torch.randint(0, 256, (3, 3, 6, 8), generator=torch.Generator().manual_seed(0))
    images = images.repeat_interleave(12, dim=2).repeat_interleave(12, dim=3).to(torch.uint8)
    vocabulary = Vocabulary.parse("dog, hound; grass; sky")
    segmenter.embed_classes(vocabulary)  # once a vocabulary
    expected = segmenter(images, vocabulary)
    with NoHostReads() as guard:
        prediction = segmenter(images, vocabulary)
    assert guard.num_pending_reads == 1 + config.regions.ancestors
    assert torch.equal(prediction.class_map, expected.class_map)
