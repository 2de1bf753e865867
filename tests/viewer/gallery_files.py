"""Reading of the files of a gallery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_data(page: Path) -> dict[str, Any]:
    """Return the content of `data.js` beside a page; checks that it cannot end a script element."""
    text = (page.parent / "data.js").read_text("ascii")
    assert text.startswith("const GALLERY = ") and text.endswith(";\n") and "<" not in text
    return json.loads(text.removeprefix("const GALLERY = ").removesuffix(";\n"))


def list_files(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
