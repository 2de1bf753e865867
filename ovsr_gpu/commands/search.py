"""`ovsr search`: find the regions of a run that best match a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import exit_on_error
from ovsr_gpu.commands.console import console, print_section, progress_bar

MAX_HITS_PRINTED = 5


def search(
    run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")],
    text: Annotated[str, typer.Argument(help='What to search for, such as "a red car".')],
    count: Annotated[int, typer.Option(min=1, help="Number of regions to show.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder in which to create the page's folder, search; default: the run's folder."),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(help="The run's CLIP model, if its location has changed: a model name or local-dir:PATH."),
    ] = None,
    clip_weights: Annotated[str | None, typer.Option(help="Its weights file, if the location has changed.")] = None,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Find the regions of a run that best match a text.

    The text does not have to be one of the run's classes. The result is a page that opens from disk; it replaces the
    page of an earlier search.
    """
    with exit_on_error():
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.store.manifest import read_class_names
        from ovsr_gpu.store.reader import Store
        from ovsr_gpu.viewer.gallery import write_gallery
        from ovsr_gpu.viewer.region_search import embed_text, load_run_clip, search_regions
        from ovsr_gpu.viewer.run_images import search_images
        from ovsr_gpu.vocabulary import SOMETHING_ELSE

        classes = read_class_names(run)
        embedding = embed_text(load_run_clip(run, clip, clip_weights, choose_device(device)), text)
        hits = search_regions(Store(run), embedding, count)
        with progress_bar(console(stderr=True), len(hits), "regions") as show:
            page = write_gallery(
                search_images(hits, len(classes)),
                [],
                classes,
                out or run,
                f"“{text}” in {run.resolve().name}",
                progress=lambda done: show(done, len(hits)),
                kind="search",
            )
        names = [*classes, SOMETHING_ELSE]
        rows = [
            (f"{hit.similarity:.3f}  {names[hit.row['class_index']]}", hit.row["file"])
            for hit in hits[:MAX_HITS_PRINTED]
        ]
        print_section(console(), f"{len(hits)} regions, the most similar first", rows)
        console().print(f"Open {page}")
