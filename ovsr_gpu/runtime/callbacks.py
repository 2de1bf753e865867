"""Functions that a caller passes in to hear what goes on."""

from __future__ import annotations

from collections.abc import Callable

Log = Callable[[str], None]
"""Called with a message for the user."""
Progress = Callable[[int, int | None], None]
"""Called with the number of images done and of all images, None while that is unknown."""


def no_log(message: str) -> None:
    """Drop the message."""


def no_progress(done: int, total: int | None) -> None:
    """Show nothing."""
