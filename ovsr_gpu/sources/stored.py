"""Images that a run has kept a record of, to be opened again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.locations import Location, is_url
from ovsr_gpu.sources.shards import TarMember
from ovsr_gpu.sources.videos import Frame, Place


def stored_image(name: str, file: str, source: str | None) -> ImageSource:
    """The image that a row of a run's store speaks of, by its columns `image`, `file` and `source`."""
    if source is None:
        return ImageSource(_location(file), name)
    fields = json.loads(source)
    return _KINDS[fields.pop("kind")](file, name, fields)


def _tar_member(file: str, name: str, fields: dict[str, Any]) -> ImageSource:
    return TarMember(file, name, _location(fields["tar"]), fields["offset"], fields["size"])


def _frame(file: str, name: str, fields: dict[str, Any]) -> ImageSource:
    return Frame(
        file, name, _location(fields["video"]), Place(*fields["place"]), Place(*fields["key"]), fields["stride"]
    )


_KINDS: dict[str, Callable[[str, str, dict[str, Any]], ImageSource]] = {"tar": _tar_member, "video": _frame}


def _location(text: str) -> Location:
    return text if is_url(text) else Path(text)
