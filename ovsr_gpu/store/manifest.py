"""The manifest of a run, `run.json`: what the results depend on. A run can be resumed only with the same manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovsr_gpu.runtime.atomic import write_json
from ovsr_gpu.vocabulary import Vocabulary

MANIFEST_FILE = "run.json"
SCHEMA_VERSION = 2
"""The version of the files in a run's folder. A run with another version cannot be resumed."""

WEIGHT_LOCATIONS = frozenset(
    {"config.models.backbone_weights", "config.models.clip", "config.models.clip_weights", "clip.model", "clip.weights"}
)
"""Keys that name the source of the weights. They may change; a hash of the weights shows whether they are the same."""

MAX_DIFFERENCES_SHOWN = 5


def describe_run(
    models: dict[str, Any], vocabulary: Vocabulary, outputs: Sequence[str], batch_size: int
) -> dict[str, Any]:
    """Return everything that the results depend on.

    The batch size is part of it, because the last bits of the networks' results depend on it.

    Args:
        models: The description of the models, see `Worker.describe`.
        vocabulary: The classes.
        outputs: Names of the outputs.
        batch_size: Images per batch.

    Returns:
        The content of the manifest, in JSON types.
    """
    description = {
        "schema": SCHEMA_VERSION,
        "vocabulary": asdict(vocabulary),
        "outputs": list(outputs),
        "batch_size": batch_size,
        **models,
    }
    return json.loads(json.dumps(description))


def write_manifest(out: Path, description: dict[str, Any]) -> None:
    """Write `run.json` into the run's folder `out`; see `describe_run` for the content."""
    write_json(out / MANIFEST_FILE, description)


def check_manifest(out: Path, description: dict[str, Any]) -> list[str]:
    """Check that the run in `out` was made with the settings of `description`.

    Args:
        out: The run's folder.
        description: The result of `describe_run` for the run that is to continue.

    Returns:
        A sentence for each software version that has changed since the run began.

    Raises:
        ValueError: The run was made with different settings (the message lists them), or `run.json` cannot be read.
    """
    old, new = dict(_flatten(_read(out))), dict(_flatten(description))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    versions = [key for key in changed if key.startswith("versions.")]
    different = [key for key in changed if key not in versions and key not in WEIGHT_LOCATIONS]
    if different:
        shown = [f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in different[:MAX_DIFFERENCES_SHOWN]]
        num_hidden = len(different) - MAX_DIFFERENCES_SHOWN
        more = f", and {num_hidden} more" if num_hidden > 0 else ""
        raise ValueError(
            f"the run in {str(out)!r} was made with different settings: {'; '.join(shown)}{more}; "
            "resume it with its own settings, or choose another folder"
        )
    return [f"{key.removeprefix('versions.')} was {old.get(key)} and is {new.get(key)}" for key in versions]


def read_class_names(out: Path) -> list[str]:
    """Return the class names of the run in the folder `out`, without "something else".

    Raises:
        ValueError: `out` is not the folder of a run.
    """
    return _read(out)["vocabulary"]["names"]


def _read(out: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((out / MANIFEST_FILE).read_text("utf-8"))
        if not isinstance(manifest, dict) or "vocabulary" not in manifest:
            raise ValueError("it is not the manifest of a run")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(out)!r} is not the folder of a run: {MANIFEST_FILE} cannot be read ({error})"
        ) from error
    return manifest


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their dotted keys."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value
