"""Ablations: score a dataset with many configurations of the method and show the scores as one table."""

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
from ovsr_gpu.runtime.atomic import atomic_write, write_json
from ovsr_gpu.segmenter import Segmenter

JSON_FILE, TABLE_FILE = "ablation.json", "ablation.md"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The content of an ablation file.

    Attributes:
        dataset, root, list, withhold, preset, backbone_weights, clip, clip_weights: As the options of `ovsr eval`;
            root, list and weights may contain environment variables ($HOME).
        base: Values of configuration fields for all rows, by names such as "clustering.linkage".
        grids: Maps from field names to lists of values. Each grid has a row for every combination of its values; all
            other fields are as in the base.
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

        Raises:
            ValueError: The content is invalid; the message names the file and the key.
            OSError: The file cannot be read.
        """
        try:
            content = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
        keys = [field.name for field in fields(cls)]
        if not isinstance(content, dict) or not {"dataset", "root"} <= content.keys():
            raise ValueError(f"{str(path)!r} must contain a map with dataset and root; it contains {content!r}")
        for key in content.keys() - set(keys):
            raise ValueError(f"{str(path)!r}: unknown key {key}; the keys are {', '.join(keys)}")
        plan = cls(**content)
        plan._check(path)
        return plan

    def _check(self, path: Path) -> None:
        has_lists = isinstance(self.withhold, list | tuple) and isinstance(self.grids, list | tuple)
        if not has_lists or not isinstance(self.base, dict) or not all(isinstance(grid, dict) for grid in self.grids):
            raise ValueError(f"{str(path)!r}: base must be a map, withhold a list, grids a list of maps")
        for grid in self.grids:
            for name, values in grid.items():
                if not isinstance(values, list) or not values:
                    raise ValueError(f"{str(path)!r}: {name} of a grid must be a list of values; it is {values!r}")

    def configs(self) -> Sequence[tuple[dict[str, Any], Config]]:
        """Return the changed fields and the configuration of each row: the base, without changes, then grid by grid.

        A configuration that occurs more than once has one row.

        Raises:
            ValueError: A field does not exist or its value is invalid; the message names the field.
        """
        models = ModelConfig()
        if self.backbone_weights is not None:
            models = replace(models, backbone_weights=expand_variables(self.backbone_weights))
        if self.clip is not None:
            weights = self.clip_weights and expand_variables(self.clip_weights)
            models = replace(models, clip=expand_variables(self.clip), clip_weights=weights)
        base = replace_fields(Config(preset=self.preset, models=models), self.base)  # type: ignore[arg-type]
        rows: dict[Config, dict[str, Any]] = {base: {}}
        for grid in self.grids:
            for values in product(*grid.values()):
                changed = dict(zip(grid, values, strict=True))
                rows.setdefault(replace_fields(base, changed), changed)
        return [(changed, config) for config, changed in rows.items()]


def replace_fields(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a configuration with new values for some fields.

    Args:
        config: The configuration to change.
        values: Values by names such as "clustering.linkage"; lists, as in YAML and JSON, become tuples.

    Returns:
        The new configuration.

    Raises:
        ValueError: A field does not exist or its value is invalid; the message names the field.

    Example:
        >>> replace_fields(Config(), {"features.grid_size": 28}).features.grid_size
        28
    """
    groups = {group.name: getattr(config, group.name) for group in fields(config) if group.name != "preset"}
    field_names = {f"{name}.{field.name}" for name, group in groups.items() for field in fields(group)}
    changes: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in field_names:
            raise ValueError(f"there is no field {name!r}; the fields are {', '.join(sorted(field_names))}")
        group, field = name.split(".")
        changes.setdefault(group, {})[field] = tuple(value) if isinstance(value, list) else value
    try:
        return replace(config, **{group: replace(groups[group], **change) for group, change in changes.items()})
    except TypeError as error:
        pairs = ", ".join(f"{name}: {value!r}" for name, value in values.items())
        raise ValueError(f"a value has the wrong type for its field, among {pairs} ({error})") from error


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        changed: Values of the fields that differ from the base, by field name.
        scores: As in `scores.json` of `ovsr eval`.
    """

    changed: dict[str, Any]
    scores: dict[str, Any]


def expand_variables(path: str) -> str:
    """Return a path with its environment variables replaced by their values.

    Raises:
        ValueError: A variable is not set.
    """
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
    progress: Callable[[int, int], None] = lambda num_done, num_total: None,
) -> list[Row]:
    """Score every row of a plan.

    Args:
        plan: The dataset and the configurations.
        load: Function that returns a Segmenter with newly loaded networks; consecutive rows with the same `models`
            share them.
        out: Folder for `ablation.json` and `ablation.md`, written after each row. Rows that `ablation.json` already has
            are not scored again.
        batch_size: Number of images per batch.
        progress: Called with the number of finished images and with the number of images of all rows.

    Returns:
        One row per configuration, in the order of `Plan.configs`.

    Raises:
        ValueError: The plan is invalid (checked before any row is scored), or `out` is from another dataset, other
            models or another base. Also everything that `open_dataset`, `load` and `evaluate` raise.
    """
    configs = plan.configs()
    dataset = open_dataset(plan.dataset, expand_variables(plan.root), plan.list and expand_variables(plan.list))
    segmenter, models = load(configs[0][1]), configs[0][1].models
    provenance = {
        "dataset": dataset.name,
        "examples": [example.source.name for example in dataset.examples],
        "withheld": list(plan.withhold),
        "base": segmenter.pipeline.describe(),
    }
    finished = {} if out is None else _read_rows(out / JSON_FILE, provenance)
    num_images = len(dataset.examples)

    def report_progress(row_index: int, num_done: int) -> None:
        progress(row_index * num_images + num_done, len(configs) * num_images)

    rows = []
    for index, (changed, config) in enumerate(configs):
        key = json.dumps(changed)
        if key not in finished:
            if config.models != models:
                segmenter, models = load(config), config.models
            config = replace(config, models=segmenter.config.models)
            segmenter = Segmenter(Pipeline(segmenter.backbone, segmenter.clip, config, segmenter.device))
            evaluation = evaluate(
                segmenter,
                dataset,
                withheld=plan.withhold,
                batch_size=batch_size,
                progress=partial(report_progress, index),
            )
            finished[key] = Row(changed, evaluation.totals())
        report_progress(index, num_images)
        rows.append(finished[key])
        if out is not None:
            all_rows = [asdict(row) for row in finished.values()]
            write_json(out / JSON_FILE, {**provenance, "conventions": CONVENTIONS, "rows": all_rows})
            with atomic_write(out / TABLE_FILE) as file:
                file.write(_markdown(*table(rows)))
    return rows


def _read_rows(path: Path, provenance: dict[str, Any]) -> dict[str, Row]:
    """Return the rows in the file by their changed fields as JSON; none if there is no file."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text("utf-8"))
    different = [name for name, value in json.loads(json.dumps(provenance)).items() if content.get(name) != value]
    if different:
        raise ValueError(
            f"{str(path)!r} was made with another {', another '.join(different)}; choose another folder, or delete it"
        )
    return {json.dumps(row["changed"]): Row(**row) for row in content["rows"]}


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Return a header and a line of text for each row: scores in percent, regions per image, images per second.

    "Hungarian" is the Hungarian mIoU of the per-image protocol (mean over images), "by dataset" that of the dataset
    protocol.
    """
    header = ["changed", *_COLUMNS]
    return [header] + [
        [_format_changes(row.changed), *(column(row.scores) for column in _COLUMNS.values())] for row in rows
    ]


def _format_changes(changed: Mapping[str, Any]) -> str:
    short_names = {name.split(".")[1]: value for name, value in changed.items()}
    return "\n".join(f"{name} {json.dumps(value)}" for name, value in short_names.items()) or "nothing"


def _markdown(header: Sequence[str], *lines: Sequence[str]) -> bytes:
    text = [" | ".join(line).replace("\n", ", ") for line in (header, ["---"] * len(header), *lines)]
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
    "images/s": lambda scores: f"{scores['images'] / scores['seconds']:.1f}",
}
