"""The protocol "sclip": its settings, the synonyms of the classes, and `ovsr eval --protocol`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import open_clip
import pytest

from miniatures import write_miniature
from ovsr_gpu import Config
from ovsr_gpu.cli import main
from ovsr_gpu.datasets import DATASETS, Dataset
from ovsr_gpu.evaluation.protocols import SCLIP, apply_protocol
from ovsr_gpu.vocabulary import builtin_vocabulary

# logit_scale, prob_thd and area_thd of configs/cfg_*.py, with the defaults of clip_segmentor.py (wangf3014/SCLIP); the
# number of names in configs/cls_*.txt, without "bed" in the background of COCO-Object, and one of the names.
PUBLISHED = {
    "voc20": (40, None, None, 30, "television monitor"),
    "voc21": (65, 0.1, 0.1, 56, "wardrobe"),
    "context-59": (40, None, None, 59, "pottedplant"),
    "context-60": (50, 0.1, None, 60, "background"),
    "ade20k-150": (40, None, None, 150, "chestofdrawers"),
    "coco-stuff-171": (40, None, None, 171, "wineglass"),
    "coco-object-81": (50, 0.1, None, 112, "wine glass"),
    "cityscapes-19": (40, None, None, 19, "trafficsign"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_and_synonyms(name: str) -> None:
    dataset = Dataset(name, builtin_vocabulary(name), ())
    config, changed = apply_protocol("sclip", Config(preset="paper"), dataset)
    scale, probability, area, count, example = PUBLISHED[name]
    recognition = config.recognition
    assert (recognition.logit_scale, recognition.threshold, recognition.area_threshold) == (scale, probability, area)
    assert (recognition.synonyms, recognition.something_else) == ("max", ())
    assert (recognition.templates, recognition.shared_rank) == ("imagenet", None)
    assert recognition.first_class_is_background is (dataset.vocabulary.names[0] == "background")
    assert config.clustering == Config(preset="paper").clustering
    synonyms = [synonym for row in changed.vocabulary.synonyms for synonym in row]
    assert changed.vocabulary.names == dataset.vocabulary.names
    assert len(synonyms) == count and example in synonyms


def test_other_datasets_are_rejected() -> None:
    assert list(SCLIP) == list(PUBLISHED)
    for name in set(DATASETS) - set(PUBLISHED):
        with pytest.raises(ValueError, match=f"'sclip' has no settings for '{name}'; choose one of voc20, voc21"):
            apply_protocol("sclip", Config(), Dataset(name, builtin_vocabulary("msrc-23"), ()))
    with pytest.raises(ValueError, match="no protocol 'clip'; choose one of sclip"):
        apply_protocol("clip", Config(), Dataset("voc20", builtin_vocabulary("voc20"), ()))


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    command = ["ovsr", "eval", *map(str, arguments), "--protocol", "sclip", "--model", "embedded", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(open_clip, "OPENAI_IMAGENET_TEMPLATES", open_clip.OPENAI_IMAGENET_TEMPLATES[:1])  # for speed
    root = write_miniature("voc21", tmp_path)
    assert evaluate(monkeypatch, "voc21", "--root", root, "--encoder", "dense", "--out", tmp_path / "out") == 0
    assert "voc21, 2 of 1449 images, protocol sclip" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "scores.json").read_text())
    protocol, recognition = report["protocol"], report["config"]["recognition"]
    assert (protocol["name"], protocol["logit_scale"], protocol["area_thd"]) == ("sclip", 65, 0.1)
    assert protocol["class_synonyms"]["boat"] == ["ship"] and "sliding window" in protocol["differences"]
    assert (
        recognition["first_class_is_background"]
        and recognition["synonyms"] == "max"
        and recognition["logit_scale"] == 65
    )
    assert report["config"]["regions"]["encoder"] == "dense" and report["scores"]["regions"] >= 2
    page = (tmp_path / "out" / "scores.md").read_text()
    assert "| prob_thd | 0.1 |" in page and "sliding window" in page


@pytest.mark.parametrize("option", ["--withhold=dog", "--threshold=0.5", "--something-else="])
def test_options_of_the_open_set_are_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    root = write_miniature("voc21", tmp_path)
    assert evaluate(monkeypatch, "voc21", "--root", root, option) == 2
    assert "--protocol fixes the open-set settings" in capsys.readouterr().err
