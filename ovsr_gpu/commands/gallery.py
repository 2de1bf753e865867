"""`ovsr gallery`: a page to look at a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import plain_errors
from ovsr_gpu.commands.console import console, progress_bar


def gallery(run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")]) -> None:
    """Make a page to look at a run: images under their class colors, filters, the least certain first, the errors.

    It opens from disk, without a server and without anything from elsewhere.
    """
    with plain_errors():
        from ovsr_gpu.store.manifest import class_names
        from ovsr_gpu.store.store import Store
        from ovsr_gpu.viewer.gallery import write_gallery
        from ovsr_gpu.viewer.run_images import failures_of, images_of

        classes, store = class_names(run), Store(run)
        total = len(store.names())
        with progress_bar(console(stderr=True), total, "images") as show:
            page = write_gallery(
                images_of(store),
                failures_of(store),
                classes,
                run,
                run.resolve().name,
                progress=lambda done: show(done, total),
            )
        console().print(f"Open {page}")
