"""Miniature datasets on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from miniatures import write_miniature


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the miniature of a dataset and returns its innermost folder."""
    return partial(write_miniature, root=tmp_path)
