"""`ovsr gallery`: make a page to browse a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import exit_on_error
from ovsr_gpu.commands.console import console, progress_bar


def gallery(run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")]) -> None:
    """Make a page to browse the results of a run.

    The page shows the images with their class colors, has filters, sorts by uncertainty and lists the errors. It opens
    from disk, without a server or an internet connection.
    """
    with exit_on_error():
        from ovsr_gpu.store.manifest import read_class_names
        from ovsr_gpu.store.reader import Store
        from ovsr_gpu.viewer.gallery import write_gallery
        from ovsr_gpu.viewer.run_images import gallery_failures, gallery_images

        classes, store = read_class_names(run), Store(run)
        total = len(store.image_names())
        with progress_bar(console(stderr=True), total, "images") as show:
            page = write_gallery(
                gallery_images(store),
                gallery_failures(store),
                classes,
                run,
                run.resolve().name,
                progress=lambda done: show(done, total),
            )
        console().print(f"Open {page}")
