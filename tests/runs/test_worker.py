"""Labelling on one device: the order of results, and failures."""

from __future__ import annotations

import errno
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.runs import worker
from ovsr_gpu.runs.worker import Worker
from ovsr_gpu.sources import loading
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.sources.image_source import ImageSource, prefetch
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.vocabulary import Vocabulary
from runs_helpers import VOCABULARY, FakePipeline


class Recorder:
    """Replaces the outputs and their writer: records the names, is slowest for the first image, and fails at one."""

    def __init__(self, fail_at: str = "") -> None:
        self.written: list[str] = []
        self._fail_at = fail_at

    def open_writers(self, vocabulary: Vocabulary) -> list[Recorder]:
        return [self]

    def write(self, record: LabelledImage) -> None:
        time.sleep(0.02 / (1 + int(record.source.name)))
        if record.source.name == self._fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(record.source.name)


def make_sources(folder: Path, count: int) -> list[ImageSource]:
    """Images whose red value is their number."""
    for number in range(count):
        Image.new("RGB", (5, 4), (number, 0, 0)).save(folder / f"{number}.png")
    return [ImageSource(folder / f"{number}.png", str(number)) for number in range(count)]


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    return make_sources(tmp_path, 12)


def in_batches(sources: Sequence[ImageSource], size: int) -> list[Sequence[ImageSource]]:
    return [sources[start : start + size] for start in range(0, len(sources), size)]


def no_threads_left() -> bool:
    return not any(thread.name.startswith("ovsr-") for thread in threading.enumerate())


def test_batches_come_in_order_once_their_files_are_complete(sources: list[ImageSource]) -> None:
    sources[5].path.write_text("broken")
    recorder, place = Recorder(), 0
    for batch, own in zip(
        Worker(FakePipeline(), VOCABULARY).label(in_batches(sources, 3), recorder),
        in_batches(sources, 3),
        strict=True,
    ):
        names = [image.name for image in own if image.name != "5"]
        assert batch.regions["image"].unique().to_pylist() == names and batch.num_labelled == len(names)
        assert [failure.image for failure in batch.failures] == ["5"] * (place == 1)
        assert set(names) <= set(recorder.written) and batch.num_images == 3
        assert list(batch.wait_seconds) == ["disk", "decoding", "models", "writing", "other"]
        place += 1
    assert place == 4 and len(recorder.written) == 11 and no_threads_left()


def test_empty_batches_push_the_others_on(sources: list[ImageSource]) -> None:
    given: list[int] = []

    def as_they_come() -> Iterator[Sequence[ImageSource]]:
        yield sources[:2]
        while True:  # nothing more is found for a while
            given.append(0)
            yield []

    labelled = Worker(FakePipeline(), VOCABULARY).label(as_they_come(), Recorder())
    assert next(labelled).num_labelled == 2 and len(given) <= 8
    assert next(labelled).num_images == 0
    labelled.close()
    assert no_threads_left()


def test_a_failed_write_is_raised_after_the_batches_before(sources: list[ImageSource]) -> None:
    labelled = Worker(FakePipeline(), VOCABULARY).label(in_batches(sources, 2), Recorder("5"))
    assert [next(labelled).num_labelled, next(labelled).num_labelled] == [2, 2]
    with pytest.raises(OSError, match="No space"):
        next(labelled)
    assert no_threads_left()


def test_a_device_that_fails_for_good_ends_it(sources: list[ImageSource]) -> None:
    def fail(images: Sequence[torch.Tensor]) -> None:
        if int(images[0][0, 0, 0]) == 4:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    labelled = Worker(FakePipeline(fail), VOCABULARY).label(in_batches(sources, 1), Recorder())
    with pytest.raises(OvsrError, match=r"device 'cpu' has failed.*illegal memory access.*resumed"):
        list(labelled)
    assert no_threads_left()


def test_one_image_that_needs_too_much_memory_is_tried_once_more(sources: list[ImageSource]) -> None:
    calls: list[int] = []

    def fill(fails: int) -> Callable[[Sequence[torch.Tensor]], None]:
        def run_out(images: Sequence[torch.Tensor]) -> None:
            calls.append(len(images))
            if len(calls) <= fails:
                raise torch.OutOfMemoryError("no memory")

        return run_out

    for fails, labelled in ((1, 1), (2, 0)):
        calls.clear()
        said: list[str] = []
        pipeline = FakePipeline(fill(fails))
        [batch] = Worker(pipeline, VOCABULARY).label([sources[:1]], Recorder(), said.append)
        assert (batch.num_labelled, len(calls), pipeline.halved, len(said)) == (labelled, 2, 1, 1)


def test_images_read_elsewhere_are_as_those_read_here(sources: list[ImageSource]) -> None:
    sources[1].path.write_text("broken")
    sources[2].path.unlink()
    away = [prefetch(source) for source in sources]
    assert [one.identity for one in away] == [one.identity for one in sources]
    [here] = Worker(FakePipeline(), VOCABULARY).label([sources], Recorder())
    for source in sources[3:]:
        source.path.unlink()
    [there] = Worker(FakePipeline(), VOCABULARY).label([away], Recorder())
    assert there.regions.equals(here.regions) and there.failures == here.failures and len(here.failures) == 2


@pytest.mark.parametrize("limits", [(3, 3, 1), (3, 1, 3), (4, 1, 4)])
def test_every_image_once_while_the_memory_shrinks(sources: list[ImageSource], limits: tuple[int, ...]) -> None:
    """The number of images at a time falls while a batch is being split."""

    def run_out(images: Sequence[torch.Tensor]) -> None:
        if len(images) > limits[int(images[0][0, 0, 0]) // 4]:
            raise torch.OutOfMemoryError("no memory")

    recorder = Recorder()
    labelled = list(Worker(FakePipeline(run_out), VOCABULARY).label(in_batches(sources, 4), recorder))
    assert [batch.num_labelled for batch in labelled] == [4, 4, 4]
    assert sorted(recorder.written, key=int) == [source.name for source in sources]


def test_every_image_once_when_a_larger_batch_fails_late(tmp_path: Path, monkeypatch) -> None:
    """Batch 1, which began whole, fails at its copies, after batch 2 has lowered the limit to one image."""
    sources = make_sources(tmp_path, 32)
    start_copies = worker.PendingRecords

    class Failing(start_copies):
        def __init__(self, prediction: Any, encoder: Any, images: Sequence[ImageSource], pixels: Any) -> None:
            if len(images) == 8 and images[0].name == "8":
                raise torch.OutOfMemoryError("no memory for the copies")
            super().__init__(prediction, encoder, images, pixels)

    def run_out(images: Sequence[torch.Tensor]) -> None:
        if int(images[0][0, 0, 0]) // 8 == 2 and len(images) > 1:
            raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(worker, "PendingRecords", Failing)
    recorder = Recorder()
    labelled = list(Worker(FakePipeline(run_out), VOCABULARY).label(in_batches(sources, 8), recorder))
    assert [batch.num_labelled for batch in labelled] == [8, 8, 8, 8]
    assert sorted(recorder.written, key=int) == [source.name for source in sources]


def test_pixels_are_freed_part_by_part(sources: list[ImageSource], monkeypatch) -> None:
    """A batch that is too large for the pixel budget does not keep the pixels of its finished parts."""
    monkeypatch.setattr(loading, "PIXEL_BUDGET", 20)  # one image
    alive: list[int] = []
    pixels: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def decode(file: Any) -> torch.Tensor:
        image = decode_image(file)
        pixels.add(image)
        return image

    def count(images: Sequence[torch.Tensor]) -> None:
        gc.collect()
        alive.append(len(pixels))

    list(Worker(FakePipeline(count), VOCABULARY, decode).label([sources], Recorder()))
    assert len(alive) == 12 and max(alive[-3:]) < 12
