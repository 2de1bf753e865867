"""The command line: `ovsr label`, `gallery`, `search`, `export`, `eval`, `ablate`, `demo` and `info`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ovsr_gpu import __version__
from ovsr_gpu.commands.ablate import ablate
from ovsr_gpu.commands.demo import demo
from ovsr_gpu.commands.evaluate import evaluate
from ovsr_gpu.commands.export import export
from ovsr_gpu.commands.gallery import gallery
from ovsr_gpu.commands.info import info
from ovsr_gpu.commands.label import label
from ovsr_gpu.commands.search import search

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line.

    Exit status: 0 success, 1 some images could not be labelled, 2 the command could not run, 130 interrupted (Ctrl-C),
    143 stopped by SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that the terminal cannot show must not end the run
            stream.reconfigure(errors="backslashreplace")
    app()


def _show_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"ovsr {__version__}")
        raise typer.Exit


@app.callback()
def ovsr(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Segment images into regions and label them with your own class names. No training needed."""


for command in (label, gallery, search, export, ablate, demo, info):
    app.command()(command)
app.command("eval")(evaluate)


if __name__ == "__main__":
    main()
