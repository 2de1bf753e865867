"""Ablations: a dataset scored once for each of many settings of the method, as one table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ovsr_gpu.config import Config, ModelConfig
from ovsr_gpu.datasets import open_dataset
from ovsr_gpu.evaluation.report import CONVENTIONS, percent
from ovsr_gpu.evaluation.runner import evaluate
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.runtime.atomic import replacing, write_json
from ovsr_gpu.segmenter import Segmenter

FILE, TABLE = "ablation.json", "ablation.md"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an ablation file asks for.

    dataset, root, list, withhold, preset, backbone_weights, clip, clip_weights: as the options of `ovsr eval`; root,
    list and weights may hold environment variables ($HOME).
    base: values of config fields for all rows. grids: each a map of fields to lists of values; a grid has a row for
    every combination of its values, all else as in the base.
    """

    dataset: str
    root: str
    list: str | None = None
    withhold: Sequence[str] = ()
    preset: str = "default"
    backbone_weights: str | None = None
    clip: str | None = None
    clip_weights: str | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    grids: Sequence[Mapping[str, Sequence[Any]]] = ()

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a YAML file with the fields of this class.

        Raises ValueError, naming file and key, where it holds something else; OSError where it cannot be read.
        """
        try:
            content = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
        known = [one.name for one in fields(cls)]
        if not isinstance(content, dict) or not {"dataset", "root"} <= content.keys():
            raise ValueError(f"{str(path)!r} must hold a map with dataset and root; it holds {content!r}")
        for key in content.keys() - set(known):
            raise ValueError(f"{str(path)!r}: {key} is none of {', '.join(known)}")
        plan = cls(**content)
        plan._check(path)
        return plan

    def _check(self, path: Path) -> None:
        lists = isinstance(self.withhold, list | tuple) and isinstance(self.grids, list | tuple)
        if not lists or not isinstance(self.base, dict) or not all(isinstance(grid, dict) for grid in self.grids):
            raise ValueError(f"{str(path)!r}: base must be a map, withhold a list, grids a list of maps")
        for grid in self.grids:
            for name, values in grid.items():
                if not isinstance(values, list) or not values:
                    raise ValueError(f"{str(path)!r}: {name} of a grid must be a list of values; it is {values!r}")

    def configs(self) -> Sequence[tuple[dict[str, Any], Config]]:
        """The changed fields and the settings of each row: the base first, which changes none, then grid by grid.

        Raises ValueError, naming the field, where there is none of that name or a value is out of range.
        """
        models = ModelConfig()
        if self.backbone_weights is not None:
            models = replace(models, backbone_weights=expanded(self.backbone_weights))
        if self.clip is not None:
            weights = self.clip_weights and expanded(self.clip_weights)
            models = replace(models, clip=expanded(self.clip), clip_weights=weights)
        base = with_fields(Config(preset=self.preset, models=models), self.base)  # type: ignore[arg-type]
        rows: dict[Config, dict[str, Any]] = {base: {}}
        for grid in self.grids:
            for values in product(*grid.values()):
                changed = dict(zip(grid, values, strict=True))
                rows.setdefault(with_fields(base, changed), changed)
        return [(changed, config) for config, changed in rows.items()]


def with_fields(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values for some fields, by names such as "clustering.linkage".

    Lists become tuples, so that the values may come from YAML or JSON.

    Raises ValueError, naming the field, where there is none of that name or a value is out of range.
    """
    groups = {group.name: getattr(config, group.name) for group in fields(config) if group.name != "preset"}
    known = {f"{name}.{field.name}" for name, group in groups.items() for field in fields(group)}
    changes: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"there is no field {name!r}; there are {', '.join(sorted(known))}")
        group, field = name.split(".")
        changes.setdefault(group, {})[field] = tuple(value) if isinstance(value, list) else value
    try:
        return replace(config, **{group: replace(groups[group], **change) for group, change in changes.items()})
    except TypeError as error:
        given = ", ".join(f"{name}: {value!r}" for name, value in values.items())
        raise ValueError(f"a value of another kind than its field takes stands among {given} ({error})") from error


@dataclass(frozen=True)
class Row:
    """A line of the table: the changed fields, and the scores as `scores.json` of `ovsr eval` has them."""

    changed: dict[str, Any]
    scores: dict[str, Any]


def expanded(path: str) -> str:
    """A path with its environment variables filled in. Raises ValueError for one that is not set."""
    path = os.path.expandvars(path)
    if unset := re.search(r"\$\w+|\$\{\w+\}", path):
        raise ValueError(f"{path!r} needs the environment variable {unset[0]}, which is not set")
    return path


def ablate(
    plan: Plan,
    load: Callable[[Config], Segmenter],
    out: Path | None = None,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Score every row of a plan.

    load: makes a Segmenter with networks of its own; rows with the same `models` share them. With `out` each row is
    kept in `out/ablation.json` as soon as it is done, beside the table so far, and is not scored again the next time.
    `progress` is called with the number of images done and that of all rows together.

    Raises ValueError for a plan that cannot be, before anything is scored, and for an `out` that was made with another
    dataset, other models or another base; all that `open_dataset`, `load` and `evaluate` raise.
    """
    configs = plan.configs()
    dataset = open_dataset(plan.dataset, expanded(plan.root), plan.list and expanded(plan.list))
    segmenter, models = load(configs[0][1]), configs[0][1].models
    made_with = {
        "dataset": dataset.name,
        "examples": [example.source.name for example in dataset.examples],
        "withheld": list(plan.withhold),
        "base": segmenter.pipeline.describe(),
    }
    kept = {} if out is None else _read(out / FILE, made_with)
    images = len(dataset.examples)

    def show(row: int, done: int) -> None:
        progress(row * images + done, len(configs) * images)

    rows = []
    for number, (changed, config) in enumerate(configs):
        key = json.dumps(changed)
        if key not in kept:
            if config.models != models:
                segmenter, models = load(config), config.models
            config = replace(config, models=segmenter.config.models)
            segmenter = Segmenter(Pipeline(segmenter.backbone, segmenter.clip, config, segmenter.device))
            found = evaluate(
                segmenter, dataset, withheld=plan.withhold, batch_size=batch_size, progress=partial(show, number)
            )
            kept[key] = Row(changed, found.totals())
        show(number, images)
        rows.append(kept[key])
        if out is not None:
            done = [asdict(row) for row in kept.values()]
            write_json(out / FILE, {**made_with, "conventions": CONVENTIONS, "rows": done})
            with replacing(out / TABLE) as file:
                file.write(_markdown(*table(rows)))
    return rows


def _read(path: Path, made_with: dict[str, Any]) -> dict[str, Row]:
    """The rows that stand in the file by their changed fields as JSON; none where there is no file."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text("utf-8"))
    different = [name for name, value in json.loads(json.dumps(made_with)).items() if content.get(name) != value]
    if different:
        raise ValueError(
            f"{str(path)!r} was made with another {', another '.join(different)}; name another folder, or delete it"
        )
    return {json.dumps(row["changed"]): Row(**row) for row in content["rows"]}


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A head line and a line for each row: scores in percent, then the regions of an image and images a second.

    The Hungarian mIoU is the per-image one, mean over images, and the one by dataset.
    """
    head = ["changed", *_COLUMNS]
    return [head] + [[_told(row.changed), *(column(row.scores) for column in _COLUMNS.values())] for row in rows]


def _told(changed: Mapping[str, Any]) -> str:
    short = {name.split(".")[1]: value for name, value in changed.items()}
    return "\n".join(f"{name} {json.dumps(value)}" for name, value in short.items()) or "nothing"


def _markdown(head: Sequence[str], *lines: Sequence[str]) -> bytes:
    text = [" | ".join(line).replace("\n", ", ") for line in (head, ["---"] * len(head), *lines)]
    return "".join(f"| {line} |\n" for line in text).encode()


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "mIoU": lambda scores: percent(scores["pixels"]["miou"]),
    "pixel acc.": lambda scores: percent(scores["pixels"]["pixel_accuracy"]),
    "region acc.": lambda scores: percent(scores["calibration"]["accuracy"]),
    "Hungarian": lambda scores: percent(scores["image_hungarian"]["image_miou"]),
    "by dataset": lambda scores: percent(scores["dataset_hungarian"]["miou"]),
    "boundary F": lambda scores: percent(scores["boundaries"]["macro_f"]),
    "ECE": lambda scores: percent(scores["calibration"]["ece"]),
    "AUROC": lambda scores: percent(scores["open_set"] and scores["open_set"]["auroc"]),
    "regions": lambda scores: f"{scores['regions'] / scores['images']:.1f}",
    "pict./s": lambda scores: f"{scores['images'] / scores['seconds']:.1f}",
}
