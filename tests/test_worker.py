"""Labelling on one device: what comes out when, and what happens where something fails."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_session import VOCABULARY, FakeSegmenter

from ovsr_gpu.errors import OvsrError
from ovsr_gpu.runs.worker import Labeller
from ovsr_gpu.sources.image_source import Picture, held
from ovsr_gpu.store.record import LabelledPicture
from ovsr_gpu.vocabulary import Vocabulary


class Recorder:
    """Stands for the outputs and their writer: notes what it is given, slowest for the first, and fails at one."""

    def __init__(self, fail_at: str = "") -> None:
        self.written: list[str] = []
        self._fail_at = fail_at

    def open(self, vocabulary: Vocabulary) -> list[Recorder]:
        return [self]

    def write(self, record: LabelledPicture) -> None:
        time.sleep(0.02 / (1 + int(record.picture.name)))
        if record.picture.name == self._fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(record.picture.name)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    for number in range(12):
        Image.new("RGB", (5, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return [Picture(tmp_path / f"{number}.png", str(number)) for number in range(12)]


def in_batches(pictures: Sequence[Picture], size: int) -> list[Sequence[Picture]]:
    return [pictures[start : start + size] for start in range(0, len(pictures), size)]


def no_threads_left() -> bool:
    return not any(thread.name.startswith("ovsr-") for thread in threading.enumerate())


def test_batches_come_in_order_once_their_files_are_complete(pictures: list[Picture]) -> None:
    pictures[5].path.write_text("broken")
    recorder, place = Recorder(), 0
    for batch, own in zip(
        Labeller(FakeSegmenter(), VOCABULARY).label(in_batches(pictures, 3), recorder),
        in_batches(pictures, 3),
        strict=True,
    ):
        names = [picture.name for picture in own if picture.name != "5"]
        assert batch.regions["picture"].unique().to_pylist() == names and batch.labelled == len(names)
        assert [failure.picture for failure in batch.failures] == ["5"] * (place == 1)
        assert set(names) <= set(recorder.written) and batch.pictures == 3
        assert list(batch.waited) == ["disk", "decoding", "models", "writing", "other"]
        place += 1
    assert place == 4 and len(recorder.written) == 11 and no_threads_left()


def test_empty_batches_push_the_others_on(pictures: list[Picture]) -> None:
    given: list[int] = []

    def as_they_come() -> Iterator[Sequence[Picture]]:
        yield pictures[:2]
        while True:  # nothing more is found for a while
            given.append(0)
            yield []

    labelled = Labeller(FakeSegmenter(), VOCABULARY).label(as_they_come(), Recorder())
    assert next(labelled).labelled == 2 and len(given) <= 8
    assert next(labelled).pictures == 0
    labelled.close()
    assert no_threads_left()


def test_a_failed_write_is_raised_after_the_batches_before(pictures: list[Picture]) -> None:
    labelled = Labeller(FakeSegmenter(), VOCABULARY).label(in_batches(pictures, 2), Recorder("5"))
    assert [next(labelled).labelled, next(labelled).labelled] == [2, 2]
    with pytest.raises(OSError, match="No space"):
        next(labelled)
    assert no_threads_left()


def test_a_device_that_fails_for_good_ends_it(pictures: list[Picture]) -> None:
    def fail(images: Sequence[torch.Tensor]) -> None:
        if int(images[0][0, 0, 0]) == 4:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    labelled = Labeller(FakeSegmenter(fail), VOCABULARY).label(in_batches(pictures, 1), Recorder())
    with pytest.raises(OvsrError, match=r"device 'cpu' has failed.*illegal memory access.*resumed"):
        list(labelled)
    assert no_threads_left()


def test_one_picture_that_needs_too_much_memory_is_tried_once_more(pictures: list[Picture]) -> None:
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
        segmenter = FakeSegmenter(fill(fails))
        [batch] = Labeller(segmenter, VOCABULARY).label([pictures[:1]], Recorder(), said.append)
        assert (batch.labelled, len(calls), segmenter.halved, len(said)) == (labelled, 2, 1, 1)


def test_pictures_read_elsewhere_are_as_those_read_here(pictures: list[Picture]) -> None:
    pictures[1].path.write_text("broken")
    pictures[2].path.unlink()
    away = [held(picture) for picture in pictures]
    assert [one.identity for one in away] == [one.identity for one in pictures]
    [here] = Labeller(FakeSegmenter(), VOCABULARY).label([pictures], Recorder())
    for picture in pictures[3:]:
        picture.path.unlink()
    [there] = Labeller(FakeSegmenter(), VOCABULARY).label([away], Recorder())
    assert there.regions.equals(here.regions) and there.failures == here.failures and len(here.failures) == 2
