"""The whole method with a fixed capacity of regions, as it is captured in a CUDA graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from host_reads import NoHostReads
from ovsr_gpu import ClusteringConfig, Config, FeatureConfig, ImageError, RecognitionConfig, RegionConfig
from ovsr_gpu.captured_segmenter import classify_all_regions, run_both_stages
from ovsr_gpu.image_batch import ImageBatch

CLASSES = "dog, hound; grass; sky"
CPU = torch.device("cpu")
SMALL = {
    "features": FeatureConfig(input_size=96, grid_size=12),
    "clustering": ClusteringConfig(count_rule="fixed", count_parameter=4),
}
CONFIGS = {
    "crop": Config(**SMALL),
    "shared space": Config(**SMALL, recognition=RecognitionConfig(shared_rank=5)),
    "centered": Config(**SMALL, recognition=RecognitionConfig(shared_rank=5, shared_centered=True)),
    "dense": Config(**SMALL, regions=RegionConfig(encoder="dense")),
    "synonyms and background": Config(
        **SMALL,
        recognition=RecognitionConfig(
            something_else=(), synonyms="max", first_class_is_background=True, threshold=0.4, area_threshold=0.2
        ),
    ),
}


def sample_images() -> torch.Tensor:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 5))
    return torch.tensor(coarse.repeat(15, axis=2).repeat(14, axis=3)).to(torch.uint8)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("spare", [40, 1, 0, -1, -5])
def test_no_region_is_lost_and_empty_slots_change_nothing(make_segmenter, config, spare):
    segmenter = make_segmenter(config)
    expected = segmenter(sample_images(), CLASSES)
    capacity = len(expected.regions) + spare
    assert capacity >= 3
    images, texts = ImageBatch.of(sample_images(), CPU), segmenter.embed_classes(CLASSES)
    with NoHostReads() as guard, torch.no_grad():
        output = run_both_stages(segmenter.pipeline, images, texts, capacity)
    assert guard.num_pending_reads == 0
    assert len(output.regions) == capacity and int(output.stage_one.table.total) == len(expected.regions)
    regions, class_map = classify_all_regions(segmenter.pipeline, images, texts, output, len(expected.regions))
    assert torch.equal(output.stage_one.region_map, expected.region_map) and torch.equal(class_map, expected.class_map)
    assert torch.equal(regions.boxes, expected.regions.boxes)
    torch.testing.assert_close(regions.probabilities, expected.regions.probabilities, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(regions.embeddings, expected.regions.embeddings, rtol=1e-4, atol=1e-6)


def test_a_graph_needs_cuda(make_segmenter):
    with pytest.raises(ValueError, match="needs a CUDA device; this Segmenter runs on 'cpu'"):
        make_segmenter(CONFIGS["crop"]).capture((1, 3, 40, 40), CLASSES)


@pytest.mark.gpu
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("capacity", [None, 4])
def test_the_graph_gives_what_the_segmenter_gives(tiny_clip, random_backbone, config, capacity):
    from ovsr_gpu import Segmenter

    segmenter = Segmenter.from_pretrained(config, backbone_weights=random_backbone, clip=tiny_clip, device="cuda")
    graph = segmenter.capture((3, 3, 60, 70), CLASSES, capacity=capacity)
    images = sample_images()
    for batch in (images, images.flip(3), images.flip(0).cuda(), torch.zeros_like(images)):
        found, expected = graph(batch), segmenter(batch, CLASSES)
        assert torch.equal(found.region_map, expected.region_map)
        assert torch.equal(found.class_map, expected.class_map)
        torch.testing.assert_close(found.regions.probabilities, expected.regions.probabilities, rtol=1e-2, atol=1e-3)
    with pytest.raises(ImageError, match=r"captured for \[3, 3, 60, 70\]"):
        graph(images[:2])
