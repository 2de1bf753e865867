"""The protocol "sclip": its settings, the words of the classes, and `ovsr eval --protocol`."""

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
from ovsr_gpu.evaluation.protocols import SCLIP, under_protocol
from ovsr_gpu.vocabulary import ready_vocabulary

# logit_scale, prob_thd and area_thd of configs/cfg_*.py, with the defaults of clip_segmentor.py (wangf3014/SCLIP); the
# number of words in configs/cls_*.txt, but for "bed" in the background of COCO-Object, and one of them.
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
def test_settings_and_words(name: str) -> None:
    dataset = Dataset(name, ready_vocabulary(name), ())
    config, changed = under_protocol("sclip", Config(preset="paper"), dataset)
    scale, probability, area, count, word = PUBLISHED[name]
    found = config.recognition
    assert (found.logit_scale, found.threshold, found.area_threshold) == (scale, probability, area)
    assert (found.synonyms, found.something_else, found.templates, found.shared_rank) == ("max", (), "imagenet", None)
    assert found.background is (dataset.vocabulary.names[0] == "background")
    assert config.clustering == Config(preset="paper").clustering
    words = [word for row in changed.vocabulary.synonyms for word in row]
    assert changed.vocabulary.names == dataset.vocabulary.names
    assert len(words) == count and word in words


def test_only_for_published_datasets() -> None:
    assert list(SCLIP) == list(PUBLISHED)
    for name in set(DATASETS) - set(PUBLISHED):
        with pytest.raises(ValueError, match=f"'sclip' has no settings for '{name}'; it has some for voc20, voc21"):
            under_protocol("sclip", Config(), Dataset(name, ready_vocabulary("msrc-23"), ()))
    with pytest.raises(ValueError, match="no protocol 'clip'; there are sclip"):
        under_protocol("clip", Config(), Dataset("voc20", ready_vocabulary("voc20"), ()))


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    command = ["ovsr", "eval", *map(str, arguments), "--protocol", "sclip", "--model", "embedded", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_by_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(open_clip, "OPENAI_IMAGENET_TEMPLATES", open_clip.OPENAI_IMAGENET_TEMPLATES[:1])  # for speed
    root = write_miniature("voc21", tmp_path)
    assert evaluate(monkeypatch, "voc21", "--root", root, "--encoder", "dense", "--out", tmp_path / "out") == 0
    assert "voc21, 2 of 1449 images, protocol sclip" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    protocol, recognition = found["protocol"], found["config"]["recognition"]
    assert (protocol["name"], protocol["logit_scale"], protocol["area_thd"]) == ("sclip", 65, 0.1)
    assert protocol["words"]["boat"] == ["ship"] and "sliding window" in protocol["differences"]
    assert recognition["background"] and recognition["synonyms"] == "max" and recognition["logit_scale"] == 65
    assert found["config"]["regions"]["encoder"] == "dense" and found["scores"]["regions"] >= 2
    page = (tmp_path / "out" / "scores.md").read_text()
    assert "| prob_thd | 0.1 |" in page and "sliding window" in page


@pytest.mark.parametrize("option", ["--withhold=dog", "--threshold=0.5", "--something-else="])
def test_what_it_fixes_cannot_be_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    root = write_miniature("voc21", tmp_path)
    assert evaluate(monkeypatch, "voc21", "--root", root, option) == 2
    assert "--protocol fixes the open set" in capsys.readouterr().err
