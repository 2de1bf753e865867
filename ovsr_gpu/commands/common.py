"""Exit statuses and error messages of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ovsr_gpu.errors import OvsrError

SOME_FAILED, COULD_NOT_RUN, INTERRUPTED, STOPPED = 1, 2, 130, 143


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print errors that a user can cause as one message, without a traceback, and exit with a status."""
    try:
        yield
    except (OvsrError, ValueError, OSError) as error:
        typer.echo(f"ovsr: {error}", err=True)
        raise typer.Exit(COULD_NOT_RUN) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
