"""A run on a CUDA device: the worker moves images there and copies everything back."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

pytest.importorskip("pyarrow", reason="a run needs pyarrow")

from ovsr_gpu import Config, FeatureConfig, Segmenter, Vocabulary
from ovsr_gpu.runs.worker import Worker
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.record import LabelledImage

pytestmark = pytest.mark.gpu


class Recorder:
    """Stands for the outputs of a run and their writer."""

    def __init__(self) -> None:
        self.records: list[LabelledImage] = []

    def open_writers(self, vocabulary: Vocabulary) -> list[Recorder]:
        return [self]

    def write(self, record: LabelledImage) -> None:
        self.records.append(record)


def test_a_run_labels_as_a_call_does(tiny_clip, random_backbone, tmp_path):
    """Also while other batches are in flight."""
    config = Config(features=FeatureConfig(input_size=128, grid_size=16))
    segmenter = Segmenter.from_pretrained(config, backbone_weights=random_backbone, clip=tiny_clip, device="cuda")
    vocabulary, recorder = Vocabulary.parse("a; b; c"), Recorder()
    noise = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    images = (interpolate(noise, (120, 160), mode="bicubic") * 60 + 120).clamp(0, 255).byte()
    sources = [ImageSource(tmp_path / f"{number}.png", str(number)) for number in range(4)]
    for source, pixels in zip(sources, images, strict=True):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(source.path)
    results = list(Worker(segmenter.pipeline, vocabulary).label([[source] for source in sources], recorder))
    assert [result.num_labelled for result in results] == [1] * 4
    for record in recorder.records:
        [expected] = segmenter([record.source.path], vocabulary).class_map
        assert torch.equal(torch.from_numpy(record.class_map), expected.cpu())
