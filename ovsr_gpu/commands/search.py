"""`ovsr search`: the regions of a run that are most like a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import plain_errors
from ovsr_gpu.commands.console import console, print_section, progress_bar

PRINTED = 5


def search(
    run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")],
    text: Annotated[str, typer.Argument(help='What to look for: "a red car".')],
    count: Annotated[int, typer.Option(min=1, help="How many regions to show.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="Where to make the page's folder, search; in the run's folder if not given.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="The run's CLIP, if it is called otherwise now: a model name or local-dir:PATH.")
    ] = None,
    clip_weights: Annotated[str | None, typer.Option(help="Its weights, if they lie elsewhere now: a file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Make a page of the regions of a run that are most like a text, whatever classes the run was given.

    The page opens from disk and takes the place of an earlier search's.
    """
    with plain_errors():
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.store.manifest import class_names
        from ovsr_gpu.store.store import Store
        from ovsr_gpu.viewer.gallery import write_gallery
        from ovsr_gpu.viewer.region_search import best_regions, embed_text, load_run_clip
        from ovsr_gpu.viewer.run_images import images_of_hits
        from ovsr_gpu.vocabulary import SOMETHING_ELSE

        classes = class_names(run)
        embedding = embed_text(load_run_clip(run, clip, clip_weights, choose_device(device)), text)
        hits = best_regions(Store(run), embedding, count)
        with progress_bar(console(stderr=True), len(hits), "regions") as show:
            page = write_gallery(
                images_of_hits(hits, len(classes)),
                [],
                classes,
                out or run,
                f"“{text}” in {run.resolve().name}",
                progress=lambda done: show(done, len(hits)),
                kind="search",
            )
        names = [*classes, SOMETHING_ELSE]
        rows = [(f"{hit.similarity:.3f}  {names[hit.row['class_index']]}", hit.row["file"]) for hit in hits[:PRINTED]]
        print_section(console(), f"{len(hits)} regions, the most similar first", rows)
        console().print(f"Open {page}")
