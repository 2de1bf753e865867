"""What a run was made with: kept beside its results, so that it goes on only with the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.vocabulary import Vocabulary

FILE = "run.json"
SCHEMA = 2
"""Of the folder's files; a run of another schema cannot go on."""

NAMES_OF_WEIGHTS = frozenset(
    {"config.models.backbone_weights", "config.models.clip", "config.models.clip_weights", "clip.model", "clip.weights"}
)
"""Where the weights came from: they may move, their hash tells whether they are the same."""

SHOWN = 5


def describe_run(
    models: dict[str, Any], vocabulary: Vocabulary, outputs: Sequence[str], batch_size: int
) -> dict[str, Any]:
    """Everything that the results depend on, as JSON has it: to the last bit also on how images are batched.

    models: see `Worker.describe`.
    """
    description = {
        "schema": SCHEMA,
        "vocabulary": asdict(vocabulary),
        "outputs": list(outputs),
        "batch_size": batch_size,
        **models,
    }
    return json.loads(json.dumps(description))


def write_manifest(out: Path, description: dict[str, Any]) -> None:
    write_json(out / FILE, description)


def check_manifest(out: Path, description: dict[str, Any]) -> list[str]:
    """Compare the run in `out` with what it would go on with, and tell the versions that have changed since.

    Raises ValueError, with the differences, where it was made with something else.
    """
    before = _read(out)
    then, now = dict(_flat(before)), dict(_flat(description))
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    newer = [key for key in changed if key.startswith("versions.")]
    different = [key for key in changed if key not in newer and key not in NAMES_OF_WEIGHTS]
    told = [f"{key} was {then.get(key)!r} and is {now.get(key)!r}" for key in different[:SHOWN]]
    if different:
        more = f", and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise ValueError(
            f"the run in {str(out)!r} was made with something else: {'; '.join(told)}{more}; "
            "resume it with its own settings, or name another folder"
        )
    return [f"{key.removeprefix('versions.')} was {then.get(key)} and is {now.get(key)}" for key in newer]


def class_names(out: Path) -> list[str]:
    """The classes of the run in `out`.

    Raises ValueError where there is none.
    """
    return _read(out)["vocabulary"]["names"]


def _read(out: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((out / FILE).read_text("utf-8"))
        if not isinstance(manifest, dict) or "vocabulary" not in manifest:
            raise ValueError("it holds something else")
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(out)!r} is not the folder of a run: {FILE} cannot be read ({error})") from error
    return manifest


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings under dotted keys."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value
