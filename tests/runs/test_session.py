"""Labelling runs: outputs, failures, interruptions and resuming."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.config import Config
from ovsr_gpu.errors import ModelError, OvsrError
from ovsr_gpu.export.image_files import OverlayWriter, PaletteWriter
from ovsr_gpu.sources import decode
from ovsr_gpu.sources.decode import _TimedFile
from ovsr_gpu.sources.files import ImageSource, find_images
from ovsr_gpu.vocabulary import Vocabulary
from runs_helpers import VOCABULARY, FakePipeline, assert_complete, label, read_jsonl, read_results


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    """Ten images of different sizes and colors."""
    for number in range(10):
        pixels = np.full((5 + number, 9 + 2 * number, 3), 20 * number, np.uint8)
        pixels[:, 5:] += 7
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    return find_images([tmp_path / "in"])


def test_a_whole_run(tmp_path: Path, sources: list[ImageSource]) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    pipeline = FakePipeline()
    summary = label(
        pipeline, sources, VOCABULARY, out, batch_size=4, progress=lambda done, total: seen.append((done, total))
    )
    assert pipeline.batches == [4, 4, 2] and seen == [(4, 10), (8, 10), (10, 10)]
    assert_complete(out, [str(number) for number in range(10)])
    for source in sources:
        with Image.open(source.path) as image, Image.open(out / "labels" / f"{source.name}.png") as labels:
            red, class_map = np.asarray(image)[..., 0], np.asarray(labels)
        middle = (red.shape[1] + 1) // 2
        assert (class_map[:, :middle] == red[0, 0] % 4).all() and (class_map[:, middle:] == red[0, middle] % 4).all()
    assert (summary.labelled, summary.failed, summary.resumed, summary.regions) == (10, 0, 0, 20)
    pixels = np.zeros(4)
    for source in sources:
        with Image.open(out / "labels" / f"{source.name}.png") as labels:
            pixels += np.bincount(np.asarray(labels).ravel(), minlength=4)
    assert list(summary.area_fractions) == ["dog", "grass", "sky", "something else"]
    assert list(summary.area_fractions.values()) == pytest.approx(list(pixels / pixels.sum()), abs=1e-6)
    regions = read_jsonl(out / "regions.jsonl")
    doubt = sum((1 - region["score"]) * region["area"] for region in regions) / sum(
        region["area"] for region in regions
    )
    assert summary.uncertainty == pytest.approx(doubt, abs=1e-5)
    assert (out / "errors.jsonl").read_text() == ""
    written = json.loads((out / "summary.json").read_text())
    assert written["config"] == json.loads(json.dumps(asdict(Config())))
    assert written["device"] == "cpu" and written["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert written["images_per_second"] == summary.images_per_second > 0
    assert written["time_fractions"] == summary.time_fractions
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [
            *(".lock", "classes.json", "coco.json", "errors.jsonl", "labels", "overlays", "images.csv"),
            *("regions.jsonl", "run.json", "store", "summary.json"),
        ]
    )


@pytest.mark.parametrize("slow", ["disk", "decoding", "models", "writing"])
def test_the_summary_names_the_bottleneck(slow, tmp_path: Path, sources: list[ImageSource], monkeypatch) -> None:
    def slowed(function):
        def run(*args, **kwargs):
            time.sleep(0.1)
            return function(*args, **kwargs)

        return run

    place, name = {
        "disk": (_TimedFile, "_timed"),
        "decoding": (decode, "to_rgb"),
        "models": (FakePipeline, "begin"),
        "writing": (PaletteWriter, "write"),
    }[slow]
    original = getattr(place, name)
    if slow == "disk":
        monkeypatch.setattr(place, name, lambda file, read, *arguments: original(file, slowed(read), *arguments))
    else:
        monkeypatch.setattr(place, name, slowed(original))
    summary = label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", batch_size=1)
    assert list(summary.time_fractions) == ["disk", "decoding", "models", "writing", "other"]
    assert sum(summary.time_fractions.values()) == pytest.approx(1, abs=0.003)
    assert max(summary.time_fractions, key=summary.time_fractions.__getitem__) == slow


def test_images_decoded_elsewhere_are_counted(tmp_path: Path, sources: list[ImageSource], monkeypatch) -> None:
    def decode_some(file: Any) -> Tensor:
        pixels = decode.decode_image(file)
        return pixels.as_subclass(Elsewhere) if pixels[0, 0, 0] >= 100 else pixels

    class Elsewhere(Tensor):
        is_cpu = False
        device = torch.device("cpu")

    summary = label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", decode=decode_some)
    assert (summary.labelled, summary.decoded_on_device) == (10, 5)


def test_the_outputs_do_not_depend_on_the_batches(tmp_path: Path, sources: list[ImageSource]) -> None:
    outputs = []
    for batch_size in (1, 3, 10):
        out = tmp_path / str(batch_size)
        label(FakePipeline(), sources, VOCABULARY, out, batch_size=batch_size)
        outputs.append(read_results(out))
    assert outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) == 25


def test_an_image_the_model_fails_on_costs_only_itself(tmp_path: Path, sources: list[ImageSource]) -> None:
    def fail(images: list[Tensor]) -> None:
        if any(int(image[0, 0, 0]) == 60 for image in images):
            raise RuntimeError("out of memory")

    pipeline = FakePipeline(fail)
    summary = label(pipeline, sources, VOCABULARY, tmp_path / "out", batch_size=4)
    assert pipeline.batches == [4, 2, 2, 1, 1, 4, 2]
    assert_complete(tmp_path / "out", [str(number) for number in range(10) if number != 3])
    [error] = read_jsonl(tmp_path / "out" / "errors.jsonl")
    assert error["path"] == str(sources[3].path) and error["stage"] == "segment"
    assert "RuntimeError: out of memory" in error["reason"]
    assert (summary.labelled, summary.failed) == (9, 1) and summary.failures[0].path == str(sources[3].path)


def test_a_run_out_of_memory_goes_on_with_less_at_a_time(tmp_path: Path, sources: list[ImageSource]) -> None:
    def fill(images: list[Tensor]) -> None:
        if len(images) > 2:
            raise torch.OutOfMemoryError("no memory")

    said: list[str] = []
    pipeline = FakePipeline(fill)
    label(pipeline, sources, VOCABULARY, tmp_path / "out", batch_size=5, log=said.append)
    assert_complete(tmp_path / "out", [str(number) for number in range(10)])
    assert max(pipeline.batches[3:]) <= 3 and pipeline.halved == len(said) <= 3
    assert said[0].startswith("Out of memory: continuing with 2 images at a time")
    label(FakePipeline(), sources, VOCABULARY, tmp_path / "whole")
    assert read_results(tmp_path / "out") == read_results(tmp_path / "whole")


def test_an_error_of_the_models_ends_the_run(tmp_path: Path, sources: list[ImageSource]) -> None:
    def fail(images: list[Tensor]) -> None:
        raise ModelError("the weights are gone")

    with pytest.raises(ModelError, match="weights"):
        label(FakePipeline(fail), sources, VOCABULARY, tmp_path / "out")
    assert_complete(tmp_path / "out", [])


def test_an_interruption_keeps_what_is_finished(tmp_path: Path, sources: list[ImageSource]) -> None:
    out = tmp_path / "out"
    calls = iter(range(100))

    def interrupt(images: list[Tensor]) -> None:
        if next(calls) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(FakePipeline(interrupt), sources, VOCABULARY, out, batch_size=1)
    assert_complete(out, ["0", "1"])  # four batches were in flight
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] is True and summary["labelled"] == 2


def test_a_full_disk_ends_the_run_and_keeps_what_is_written(
    tmp_path: Path, sources: list[ImageSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = OverlayWriter.write

    def run_out_of_space(self: OverlayWriter, record: Any) -> None:
        if record.source.name >= "4":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, record)

    monkeypatch.setattr(OverlayWriter, "write", run_out_of_space)
    with pytest.raises(OvsrError, match=r"cannot be written.*No space left on device"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", batch_size=2)
    assert_complete(tmp_path / "out", ["0", "1", "2", "3"])


def test_earlier_results_are_not_lost_silently(tmp_path: Path, sources: list[ImageSource]) -> None:
    out = tmp_path / "out"
    label(FakePipeline(), sources[:3], VOCABULARY, out)
    before = (out / "coco.json").read_bytes()
    with pytest.raises(ValueError, match=r"already contains .*coco\.json.*--overwrite"):
        label(FakePipeline(), sources, VOCABULARY, out)
    assert (out / "coco.json").read_bytes() == before
    label(FakePipeline(), sources[2:], VOCABULARY, out, overwrite=True)
    assert_complete(out, [str(number) for number in range(2, 10)])


def test_an_output_that_is_no_folder_or_cannot_be_written(tmp_path: Path, sources: list[ImageSource]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "file")
    with pytest.raises(OvsrError, match="cannot be written"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "file" / "below")


def test_a_folder_with_other_files_is_no_obstacle(tmp_path: Path, sources: list[ImageSource]) -> None:
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    label(FakePipeline(), sources, VOCABULARY, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def interrupt_at(number: int, error: BaseException) -> Callable[[list[Tensor]], None]:
    calls = iter(range(100))

    def interrupt(images: list[Tensor]) -> None:
        if next(calls) == number:
            raise error

    return interrupt


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    tmp_path: Path, sources: list[ImageSource], batch_size, number
) -> None:
    sources[1].path.write_text("no image")
    label(FakePipeline(), sources, VOCABULARY, tmp_path / "whole", batch_size=2)
    out, arguments = tmp_path / "out", (sources, VOCABULARY, tmp_path / "out")
    for attempt in (number, 2):
        with pytest.raises(KeyboardInterrupt):
            pipeline = FakePipeline(interrupt_at(attempt, KeyboardInterrupt()))
            label(pipeline, *arguments, batch_size=batch_size, resume=True)
        assert json.loads((out / "summary.json").read_text())["interrupted"] is True
    pipeline = FakePipeline()
    summary = label(pipeline, *arguments, batch_size=batch_size, resume=True)
    assert sum(pipeline.batches) == 9 - summary.resumed + (1 if summary.failed and summary.resumed >= 2 else 0)
    assert (summary.labelled, summary.failed, summary.interrupted) == (9, 1, False)
    assert read_results(out) == read_results(tmp_path / "whole")
    again = FakePipeline()
    assert label(again, *arguments, batch_size=batch_size, resume=True).resumed == 10 and again.batches == []
    assert read_results(out) == read_results(tmp_path / "whole")


def test_new_images_are_added_to_a_finished_run(tmp_path: Path, sources: list[ImageSource]) -> None:
    label(FakePipeline(), sources[:4], VOCABULARY, tmp_path / "out")
    pipeline = FakePipeline()
    summary = label(pipeline, sources, VOCABULARY, tmp_path / "out", resume=True)
    assert (summary.labelled, summary.resumed, sum(pipeline.batches)) == (10, 4, 6)
    label(FakePipeline(), sources, VOCABULARY, tmp_path / "whole")
    assert read_results(tmp_path / "out") == read_results(tmp_path / "whole")


def test_a_run_is_resumed_only_with_what_it_was_made_with(tmp_path: Path, sources: list[ImageSource]) -> None:
    label(FakePipeline(), sources[:2], VOCABULARY, tmp_path / "out")
    other = FakePipeline()
    other.config = Config(preset="paper")
    with pytest.raises(ValueError, match=r"config\.clustering\.count_rule was 'merge_cost' and is 'effective_rank'"):
        label(other, sources, VOCABULARY, tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="batch_size was 8 and is 4"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", batch_size=4, resume=True)
    with pytest.raises(ValueError, match=r"vocabulary\.synonyms was .*'dog'.* and is .*'cat'"):
        label(FakePipeline(), sources, Vocabulary.parse("cat"), tmp_path / "out", resume=True)
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", resume=True)
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(ValueError, match="not a run that can be resumed"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="either resumed or overwritten"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", resume=True, overwrite=True)


def test_two_runs_cannot_share_a_folder(tmp_path: Path, sources: list[ImageSource]) -> None:
    def second(images: list[Tensor]) -> None:
        with pytest.raises(OvsrError, match="another run is writing"):
            label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", resume=True)
        seen.append(len(images))

    seen: list[int] = []
    label(FakePipeline(second), sources, VOCABULARY, tmp_path / "out", batch_size=5)
    assert seen == [5, 5]
    assert_complete(tmp_path / "out", [str(number) for number in range(10)])


def test_a_run_that_is_asked_to_stop_finishes_what_it_has_begun(tmp_path: Path, sources: list[ImageSource]) -> None:
    answers = iter([False, False, True, True, True])
    summary = label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", batch_size=3, stop=lambda: next(answers))
    assert summary.interrupted and summary.labelled == 6
    assert_complete(tmp_path / "out", [str(number) for number in range(6)])
    late = iter([False, False])  # asked for when nothing is left
    again = label(
        FakePipeline(),
        sources,
        VOCABULARY,
        tmp_path / "out",
        batch_size=3,
        resume=True,
        stop=lambda: next(late, True),
    )
    assert (again.resumed, again.labelled, again.interrupted) == (6, 10, False)


def test_too_many_failures_end_a_run(tmp_path: Path, sources: list[ImageSource]) -> None:
    for source in sources[2:6]:
        source.path.write_text("no image")
    with pytest.raises(OvsrError, match=r"images failed, more than the 1 allowed.*not an image"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", batch_size=2, max_errors=1)
    assert_complete(tmp_path / "out", ["0", "1"])
    pipeline = FakePipeline()
    summary = label(pipeline, sources, VOCABULARY, tmp_path / "out", batch_size=2, resume=True, max_errors=4)
    assert (summary.labelled, summary.failed) == (6, 4)


def test_a_run_that_goes_on_under_other_versions_says_so(tmp_path: Path, sources: list[ImageSource]) -> None:
    label(FakePipeline(), sources[:2], VOCABULARY, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    manifest["versions"]["torch"] = "0.1"
    (tmp_path / "out" / "run.json").write_text(json.dumps(manifest))
    said: list[str] = []
    label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", resume=True, log=said.append)
    assert len(said) == 1 and "torch was 0.1 and is " in said[0]
    with pytest.raises(ValueError, match=r"outputs was \['labels', .*\] and is \['labels'\]"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", resume=True, outputs=["labels"])


def test_overwriting_leaves_nothing_of_the_run_before(tmp_path: Path, sources: list[ImageSource]) -> None:
    label(FakePipeline(), sources, VOCABULARY, tmp_path / "out", outputs=["labels", "coco-panoptic", "coco"])
    label(FakePipeline(), sources[:1], VOCABULARY, tmp_path / "out", outputs=["labels"], overwrite=True)
    kept = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    expected = {".lock", "classes.json", "errors.jsonl", "labels/0.png", "run.json", "store/part-000000.parquet"}
    assert kept == expected | {"summary.json"}
    (tmp_path / "mine" / "labels").mkdir(parents=True)
    (tmp_path / "mine" / "labels" / "a.png").write_text("mine")
    with pytest.raises(ValueError, match=r"contains labels but no run\.json"):
        label(FakePipeline(), sources, VOCABULARY, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "labels" / "a.png").read_text() == "mine"
