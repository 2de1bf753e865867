"""`ovsr ablate` on a few scenes; its rows must equal the scores of `ovsr eval` with the same settings."""

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
from ovsr_gpu.evaluation.ablation import replace_fields
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
    saved = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert [row["changed"] for row in saved["rows"]] == ROWS
    assert saved["examples"] == ["10", "11"] and saved["withheld"] == ["star"] and "weights" in saved["base"]

    config = Config(
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=5),
        recognition=RecognitionConfig(templates=("{}",)),
    )
    segmenter = Segmenter.from_pretrained(config, backbone_weights=EMBEDDED, clip=EMBEDDED, device="cpu")
    expected = evaluate(segmenter, open_dataset("folder", folder), withheld=["star"])
    scores = saved["rows"][2]["scores"]
    assert without_time(scores) == without_time(json.loads(json.dumps(expected.totals())))
    assert scores["calibration"]["accuracy"] != saved["rows"][1]["scores"]["calibration"]["accuracy"]

    output = capsys.readouterr().out
    table = (tmp_path / "out" / "ablation.md").read_text().splitlines()
    assert len(table) == 2 + len(ROWS) and table[2].startswith("| nothing |")
    assert table[4].startswith('| count_rule "fixed", count_parameter 5 | ' + f"{100 * expected.pixels.miou:.1f} | ")
    assert f"{100 * expected.open_set.auroc:.1f}" in table[4].split(" | ") and "count_parameter 5" in output


def test_finished_rows_are_not_scored_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    scored = []

    def interrupt_second(segmenter: Segmenter, *arguments: object, **options: object) -> Any:
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(segmenter.config)
        return evaluate(segmenter, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ablation, "evaluate", interrupt_second)
    assert run(monkeypatch, tmp_path, PLAN) == 130
    [first] = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    monkeypatch.setattr(ablation, "evaluate", evaluate)
    short_plan = PLAN | {"grids": PLAN["grids"][1:]}
    assert run(monkeypatch, tmp_path, short_plan) == 0
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    assert rows[0] == first and [row["changed"] for row in rows] == [ROWS[0], ROWS[3]]
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, short_plan | {"withhold": ["sky"]}) == 2
    assert "was made with another withheld" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": []}, "unknown key grid; the keys are dataset, root, list"),
        (
            {"grids": [{"clustering.linkage": "ward"}]},
            "clustering.linkage of a grid must be a list of values; it is 'ward'",
        ),
        ({"grids": {"clustering.linkage": ["ward"]}}, "grids a list of maps"),
        (
            {"grids": [{"clustering.link": ["ward"]}]},
            "no field 'clustering.link'; the fields are clustering.connectivity",
        ),
        ({"grids": [{"clustering.linkage": ["wart"]}]}, "clustering.linkage must be one of"),
        ({"base": {"features.grid_size": "big"}}, "features.grid_size: 'big'"),
        ({"root": "$NO_SUCH_PLACE/a"}, "needs the environment variable $NO_SUCH_PLACE, which is not set"),
        ({"preset": "best"}, "preset must be one of"),
        ({"dataset": "imagenet"}, "no dataset 'imagenet'"),
    ],
)
def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    assert run(monkeypatch, tmp_path, PLAN | change) == 2
    output = capsys.readouterr().err
    assert output.count("ovsr: ") == 1 and message in output


def test_file_without_a_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, ["dataset"]) == 2
    assert "must contain a map with dataset and root" in capsys.readouterr().err


def test_fields_by_name() -> None:
    config = replace_fields(
        Config(), {"features.levels": [5], "clustering.linkage": "average", "clustering.connectivity": "full"}
    )
    assert config == Config(
        features=FeatureConfig(levels=(5,)), clustering=ClusteringConfig(linkage="average", connectivity="full")
    )
    assert (
        replace_fields(config, {}) == config
        and replace_fields(Config(preset="paper"), {}).recognition.shared_rank == 16
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"linkage": "ward"}, "there is no field 'linkage'; the fields are clustering.connectivity, "),
        ({"preset": "paper"}, "there is no field 'preset'"),
        ({"regions.ancestors": True, "regions.encoder": "dense"}, "encoder 'crop'"),
        ({"features.grid_size": "big"}, "features.grid_size: 'big'"),
        ({"features.levels": 3}, "features.levels: 3"),
    ],
)
def test_invalid_fields(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_fields(Config(), values)
