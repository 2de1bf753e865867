"""`ovsr ablate` on a few scenes, its rows beside those of `ovsr eval` with the same settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from miniatures import write_scenes
from ovsr_gpu import ClusteringConfig, Config, FeatureConfig, RecognitionConfig, Segmenter
from ovsr_gpu.cli import main
from ovsr_gpu.datasets import open_dataset
from ovsr_gpu.evaluation import ablation
from ovsr_gpu.evaluation.ablation import with_fields
from ovsr_gpu.evaluation.runner import evaluate
from ovsr_gpu.models.embedded import EMBEDDED

PLAN: dict[str, Any] = {
    "dataset": "folder",
    "root": "$SCENES",
    "backbone_weights": "embedded",
    "clip": "embedded",
    "withhold": ["star"],
    "base": {"recognition.templates": ["{}"]},
    "grids": [
        {"clustering.count_rule": ["fixed"], "clustering.count_parameter": [2, 5]},
        {"recognition.templates": [["{}"], ["a {}", "the {}"]]},
    ],
}
ROWS = [
    {},
    {"clustering.count_rule": "fixed", "clustering.count_parameter": 2},
    {"clustering.count_rule": "fixed", "clustering.count_parameter": 5},
    {"recognition.templates": ["a {}", "the {}"]},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCENES", str(tmp_path / "scenes"))
    return write_scenes(tmp_path / "scenes", range(10, 12))


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: object) -> int:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    command = ["ovsr", "ablate", str(tmp_path / "plan.yaml"), "--device", "cpu", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def without_time(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != "seconds"}


def test_rows_are_evaluations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, PLAN) == 0
    kept = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert [row["changed"] for row in kept["rows"]] == ROWS
    assert kept["examples"] == ["10", "11"] and kept["withheld"] == ["star"] and "weights" in kept["base"]

    config = Config(
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=5),
        recognition=RecognitionConfig(templates=("{}",)),
    )
    segmenter = Segmenter.from_pretrained(config, backbone_weights=EMBEDDED, clip=EMBEDDED, device="cpu")
    alone = evaluate(segmenter, open_dataset("folder", folder), withheld=["star"])
    scores = kept["rows"][2]["scores"]
    assert without_time(scores) == without_time(json.loads(json.dumps(alone.totals())))
    assert scores["calibration"]["accuracy"] != kept["rows"][1]["scores"]["calibration"]["accuracy"]

    said = capsys.readouterr().out
    table = (tmp_path / "out" / "ablation.md").read_text().splitlines()
    assert len(table) == 2 + len(ROWS) and table[2].startswith("| nothing |")
    assert table[4].startswith('| count_rule "fixed", count_parameter 5 | ' + f"{100 * alone.pixels.miou:.1f} | ")
    assert f"{100 * alone.open_set.auroc:.1f}" in table[4].split(" | ") and "count_parameter 5" in said


def test_finished_rows_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    scored = []

    def counted(segmenter: Segmenter, *arguments: object, **options: object) -> Any:
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(segmenter.config)
        return evaluate(segmenter, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ablation, "evaluate", counted)
    assert run(monkeypatch, tmp_path, PLAN) == 130
    [first] = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    monkeypatch.setattr(ablation, "evaluate", evaluate)
    few = PLAN | {"grids": PLAN["grids"][1:]}
    assert run(monkeypatch, tmp_path, few) == 0
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    assert rows[0] == first and [row["changed"] for row in rows] == [ROWS[0], ROWS[3]]
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, few | {"withhold": ["sky"]}) == 2
    assert "was made with another withheld" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": []}, "grid is none of dataset, root, list"),
        (
            {"grids": [{"clustering.linkage": "ward"}]},
            "clustering.linkage of a grid must be a list of values; it is 'ward'",
        ),
        ({"grids": {"clustering.linkage": ["ward"]}}, "grids a list of maps"),
        ({"grids": [{"clustering.link": ["ward"]}]}, "no field 'clustering.link'; there are clustering.connectivity"),
        ({"grids": [{"clustering.linkage": ["wart"]}]}, "clustering.linkage must be one of"),
        ({"base": {"features.grid_size": "big"}}, "features.grid_size: 'big'"),
        ({"root": "$NO_SUCH_PLACE/a"}, "needs the environment variable $NO_SUCH_PLACE, which is not set"),
        ({"preset": "best"}, "preset must be one of"),
        ({"dataset": "imagenet"}, "no dataset 'imagenet'"),
    ],
)
def test_mistakes_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    assert run(monkeypatch, tmp_path, PLAN | change) == 2
    said = capsys.readouterr().err
    assert said.count("ovsr: ") == 1 and message in said


def test_a_file_that_is_no_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, ["dataset"]) == 2
    assert "must hold a map with dataset and root" in capsys.readouterr().err


def test_fields_by_name() -> None:
    config = with_fields(
        Config(), {"features.levels": [5], "clustering.linkage": "weighted", "clustering.connectivity": "full"}
    )
    assert config == Config(
        features=FeatureConfig(levels=(5,)), clustering=ClusteringConfig(linkage="weighted", connectivity="full")
    )
    assert with_fields(config, {}) == config and with_fields(Config(preset="paper"), {}).recognition.shared_rank == 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"linkage": "ward"}, "there is no field 'linkage'; there are clustering.connectivity, "),
        ({"preset": "paper"}, "there is no field 'preset'"),
        ({"clustering.linkage": "weighted"}, "connectivity 'full'"),
        ({"features.grid_size": "big"}, "features.grid_size: 'big'"),
        ({"features.levels": 3}, "features.levels: 3"),
    ],
)
def test_fields_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_fields(Config(), values)
