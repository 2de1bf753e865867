"""Types of the callbacks that report messages and progress."""

from __future__ import annotations

from collections.abc import Callable

Log = Callable[[str], None]
"""Callback for a message to the user."""

Progress = Callable[[int, int | None], None]
"""Callback for the number of images done and the total number, None while the total is unknown."""


def no_log(message: str) -> None:
    """Ignore the message."""


def no_progress(done: int, total: int | None) -> None:
    """Ignore the progress."""
