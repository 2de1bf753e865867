"""What all commands do alike: their exit statuses, and their errors as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ovsr_gpu.errors import OvsrError

SOME_FAILED, COULD_NOT_RUN, INTERRUPTED, STOPPED = 1, 2, 130, 143


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors a user can cause into one sentence and an exit status."""
    try:
        yield
    except (OvsrError, ValueError, OSError) as error:
        typer.echo(f"ovsr: {error}", err=True)
        raise typer.Exit(COULD_NOT_RUN) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
