"""`ovsr export`: write the results of a run in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import exit_on_error
from ovsr_gpu.commands.console import console, progress_bar


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")],
    form: Annotated[
        str,
        typer.Option("--format", help="Format: coco, coco-panoptic, yolo, voc, labelme, label-studio or webdataset."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to; new or empty.")],
) -> None:
    """Write the results of a run in another format."""
    with exit_on_error():
        from ovsr_gpu.export.formats import export_run

        with progress_bar(console(stderr=True), None, "images") as show:
            export_run(run, form, out, show)
        console().print(f"Wrote the results of {run} to {out}")
