"""The outputs of a run: chosen by name, the same whether written in one session or in several."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.export import webdataset
from ovsr_gpu.export.formats import export_run
from ovsr_gpu.export.outputs import OUTPUTS, Outputs
from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.store.schema import Failure
from ovsr_gpu.vocabulary import Vocabulary
from stores import store_of

Record = Callable[..., LabelledImage]
VOCABULARY = Vocabulary.parse("dog; grass, lawn; sky")


@pytest.fixture
def records(tmp_path: Path, record: Record) -> list[LabelledImage]:
    made = []
    for number, (name, suffix) in enumerate(
        [("a.b", "jpg"), ("in/b", "PNG"), ("c", "png"), ("d", "png"), ("e", "png")]
    ):
        one = record(name, 8 + number, 11, 3, seed=number)
        path = tmp_path / "in" / f"{number}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(one.pixels).save(path)
        made.append(LabelledImage(ImageSource(path, name), *list(vars(one).values())[1:]))
    return made


def write(out: Path, names: list[str], records: list[LabelledImage]) -> None:
    """Write the outputs as a run does."""
    (out / "run.json").write_text(json.dumps({"vocabulary": {"names": VOCABULARY.names}}))
    outputs = Outputs(out, names)
    writers = outputs.open_writers(VOCABULARY)
    for one in records:
        for writer in writers:
            writer.write(one)
    store_of(out, *records, Failure("x", "in/x.png", "decode", "broken"))
    outputs.write_at_end(VOCABULARY)


def files(out: Path) -> dict[str, bytes]:
    kept = (path for path in out.rglob("*") if path.is_file() and "store" not in path.parts and path.name != "run.json")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in kept}


@pytest.mark.parametrize("name", OUTPUTS)
def test_each_alone(tmp_path: Path, records: list[LabelledImage], name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write(out, [name], records)
    assert {Path(file).parts[0] for file in files(out)} == set(OUTPUTS[name].files)


def test_an_unknown_output() -> None:
    with pytest.raises(ValueError, match=r"no output 'pdf'; available outputs: labels, overlays, regions"):
        Outputs(Path("out"), ["labels", "pdf"])


def test_panoptic_in_a_run_is_what_is_exported_from_it(tmp_path: Path, records: list[LabelledImage]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write(out, ["coco-panoptic"], records)
    export_run(out, "coco-panoptic", tmp_path / "exported")
    assert files(out) == files(tmp_path / "exported") and len(files(out)) == 6


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_shards_contain_images_and_results(
    tmp_path: Path, records: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "SHARD_IMAGES", 2)
    out = tmp_path / "out"
    out.mkdir()
    records[3].source.path.unlink()
    write(out, ["webdataset"], records)
    shards = sorted((out / "shards").iterdir())
    assert [path.name for path in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    found: dict[str, bytes] = {}
    for path in shards:
        found |= members(path)
    assert list(found)[:6] == [
        f"{n:09}.{end}" for n, image in ((0, "jpg"), (1, "png")) for end in (image, "labels.png", "json")
    ]
    for number, one in enumerate(records):
        content = json.loads(found[f"{number:09}.json"])
        assert (content["image"], content["height"], content["width"]) == (one.source.name, 8 + number, 11)
        assert [region["category_id"] for region in content["regions"]] == (one.class_index + 1).tolist()
        assert [region["class"] for region in content["regions"]] == [
            [*VOCABULARY.names, "something else"][index] for index in one.class_index
        ]
        with Image.open(io.BytesIO(found[f"{number:09}.labels.png"])) as labels:
            assert np.array_equal(np.asarray(labels), one.class_map)
            assert labels.getpalette()[:12] == class_colors(3).ravel().tolist()
        if number == 3:
            assert "there is no such file" in content["error"] and "000000003.png" not in found
        else:
            suffix = "jpg" if number == 0 else "png"
            assert found[f"{number:09}.{suffix}"] == Path(one.source.path).read_bytes() and "error" not in content


def test_webdataset_reads_the_shards(tmp_path: Path, records: list[LabelledImage]) -> None:
    wds = pytest.importorskip("webdataset")
    out = tmp_path / "out"
    out.mkdir()
    write(out, ["webdataset"], records)
    samples = list(wds.WebDataset(str(out / "shards" / "000000.tar"), shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"{number:09}" for number in range(5)]
    for sample, one in zip(samples, records, strict=True):
        assert sample["json"]["image"] == one.source.name
        if "png" in sample:
            assert np.array_equal(sample["png"], one.pixels)


def test_whole_shards_of_an_earlier_session_are_kept(
    tmp_path: Path, records: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "SHARD_IMAGES", 2)
    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder in (whole, out):
        folder.mkdir()
    write(whole, ["webdataset"], records)
    write(out, ["webdataset"], records[:3])
    first, second = (out / "shards" / f"00000{number}.tar" for number in (0, 1))
    kept, partial = first.stat().st_ino, second.stat().st_ino
    write(out, ["webdataset"], records[3:])
    assert first.stat().st_ino == kept and second.stat().st_ino != partial
    assert files(out) == files(whole)


def test_a_member_of_a_tar_is_copied_unchanged(tmp_path: Path, records: list[LabelledImage], record: Record) -> None:
    from ovsr_gpu.sources.files import find_images

    data: Any = Path(records[2].source.path).read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("x/y.PNG")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    [image] = find_images([tmp_path / "a.tar"])
    out = tmp_path / "out"
    out.mkdir()
    write(out, ["webdataset"], [LabelledImage(image, *list(vars(records[2]).values())[1:])])
    assert members(out / "shards" / "000000.tar")["000000000.png"] == data
