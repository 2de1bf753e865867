"""Open the images of an earlier run again, from the records in its store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ovsr_gpu.sources.image_source import ImageSource
from ovsr_gpu.sources.locations import Location, is_url
from ovsr_gpu.sources.shards import TarMember
from ovsr_gpu.sources.videos import Frame, FramePosition


def stored_image(name: str, file: str, source: str | None) -> ImageSource:
    """Return the image that a row of a run's store refers to.

    Args:
        name: Column `image`: the output name.
        file: Column `file`: path or URL of the image, as messages show it.
        source: Column `source`: the fields of `ImageSource.locator` as JSON, None if there are none.

    Returns:
        The image; it is not opened.
    """
    if source is None:
        return ImageSource(_location(file), name)
    fields = json.loads(source)
    return _KINDS[fields.pop("kind")](file, name, fields)


def _tar_member(file: str, name: str, fields: dict[str, Any]) -> ImageSource:
    return TarMember(file, name, _location(fields["tar"]), fields["offset"], fields["size"])


def _frame(file: str, name: str, fields: dict[str, Any]) -> ImageSource:
    position, keyframe = FramePosition(*fields["position"]), FramePosition(*fields["keyframe"])
    return Frame(file, name, _location(fields["video"]), position, keyframe, fields["stride"])


_KINDS: dict[str, Callable[[str, str, dict[str, Any]], ImageSource]] = {"tar": _tar_member, "video": _frame}


def _location(text: str) -> Location:
    return text if is_url(text) else Path(text)
