"""`ovsr ablate`: what each setting of the method is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import plain_errors
from ovsr_gpu.commands.console import console, print_table, progress_bar
from ovsr_gpu.commands.options import BatchSize, Device, check_batch_size


def ablate(
    config: Annotated[Path, typer.Argument(help="YAML file: a dataset, the models, grids of settings.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for ablation.json and ablation.md; what it has is not done again.")
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 8,
) -> None:
    """Score a dataset under many settings of the method, a table row each."""
    with plain_errors():
        from ovsr_gpu.evaluation.ablation import Plan, table
        from ovsr_gpu.evaluation.ablation import ablate as run
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.runtime.environment import describe_device
        from ovsr_gpu.segmenter import Segmenter

        check_batch_size(batch_size)
        plan = Plan.read(config)
        settings = len(plan.configs())
        where = choose_device(device)
        log = console(stderr=True)
        log.print(f"Running on {where} ({describe_device(where)})")
        log.print(f"Scoring {plan.dataset} with {settings} settings")
        with progress_bar(log, None, "images") as show:
            rows = run(
                plan,
                lambda settings: Segmenter.from_pretrained(settings, device=where),
                out,
                batch_size=batch_size,
                progress=show,
            )
        page = console()
        print_table(page, *table(rows))
        if out is not None:
            page.print(f"All scores of all rows stand in {out}")
