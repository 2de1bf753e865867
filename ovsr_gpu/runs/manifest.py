"""What a run was made with: kept beside its results, so that it goes on only with the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovsr_gpu.export.atomic import write_json
from ovsr_gpu.stages.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovsr_gpu.pipeline import Segmenter

FILE = "run.json"
SCHEMA = 2
"""Of the folder's files; a run of another schema cannot go on."""

SHOWN = 5


def describe_run(segmenter: Segmenter, vocabulary: Vocabulary, batch_size: int) -> dict[str, Any]:
    """Everything that the results depend on, as JSON has it: to the last bit also on how pictures are batched."""
    description = {
        "schema": SCHEMA,
        "config": asdict(segmenter.config),
        "vocabulary": asdict(vocabulary),
        "batch_size": batch_size,
        **segmenter.identity,
    }
    return json.loads(json.dumps(description))


def write_manifest(out: Path, description: dict[str, Any]) -> None:
    write_json(out / FILE, description)


def check_manifest(out: Path, description: dict[str, Any]) -> None:
    """Raises ValueError, with the differences, where the run in `out` was made with something else."""
    try:
        before = json.loads((out / FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the run in {str(out)!r} cannot go on: its {FILE} cannot be read ({error})") from error
    then, now = dict(_flat(before)), dict(_flat(description))
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if changed:
        told = [f"{key} was {then.get(key)!r} and is {now.get(key)!r}" for key in changed[:SHOWN]]
        more = f", and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise ValueError(
            f"the run in {str(out)!r} was made with something else: {'; '.join(told)}{more}; "
            "resume it with its own settings, or name another folder"
        )


def class_names(out: Path) -> list[str]:
    """The classes of the run in `out`.

    Raises ValueError where there is none.
    """
    try:
        return json.loads((out / FILE).read_text("utf-8"))["vocabulary"]["names"]
    except (OSError, ValueError, LookupError) as error:
        raise ValueError(f"{str(out)!r} is not the folder of a run: {FILE} cannot be read ({error})") from error


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings under dotted keys."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value
