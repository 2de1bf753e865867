"""`ovsr demo`: label synthetic images and score the result, offline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import exit_on_error
from ovsr_gpu.commands.console import console, print_section, progress_bar


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results; those of an earlier demo are replaced.")] = Path(
        "ovsr-demo"
    ),
    scenes: Annotated[int, typer.Option(help="Number of scenes, 1 to 200.")] = 200,
    json: Annotated[Path | None, typer.Option(help="Also write the scores to this file.")] = None,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Label synthetic images offline and score the result.

    Nothing is downloaded. The models that come with this package know only a small synthetic world of shapes and
    backgrounds. They are for demos, tests and offline trials, not for photographs.
    """
    with exit_on_error():
        from ovsr_gpu.models.embedded import EMBEDDED, NOTICE
        from ovsr_gpu.runtime.atomic import write_json
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.runtime.environment import describe_device
        from ovsr_gpu.segmenter import Segmenter
        from ovsr_gpu.synthetic.demo_scenes import label_scenes, prepare_output, write_scenes
        from ovsr_gpu.synthetic.scenes import TEST_SEEDS
        from ovsr_gpu.synthetic.summary_image import write_summary

        if not 1 <= scenes <= len(TEST_SEEDS):
            raise ValueError(f"--scenes must be in 1..{len(TEST_SEEDS)}; got {scenes}")
        torch_device = choose_device(device)
        prepare_output(out, json)
        log = console(stderr=True)
        log.print(f"Running on {torch_device} ({describe_device(torch_device)})")
        log.print(NOTICE)
        segmenter = Segmenter.from_pretrained(backbone_weights=EMBEDDED, clip=EMBEDDED, device=torch_device)
        log.print(f"Drawing {scenes} scenes")
        with progress_bar(log, scenes, "scenes") as show:
            made = write_scenes(out, scenes, show)
        log.print(f"Labelling {scenes} images")
        with progress_bar(log, scenes, "images") as show:
            labelled, scores = label_scenes(segmenter, out, made, show)
        summary = write_summary(out, labelled, scores)
        if json is not None:
            write_json(json, asdict(scores))
        page = console()
        rows = [
            ("labelled mIoU", f"{scores.labelled_miou:.3f}"),
            ("Hungarian mIoU", f"{scores.hungarian_miou:.3f}"),
            ("images/s", f"{scores.images_per_second:.1f}"),
        ]
        print_section(page, f"{scenes} scenes", rows)
        page.print(f"Open {summary}; next to it are the images, their target label maps and all results")
