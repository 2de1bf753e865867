"""`ovsr ablate`: compare settings of the method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import exit_on_error
from ovsr_gpu.commands.console import console, print_table, progress_bar
from ovsr_gpu.commands.options import BatchSize, Device, check_batch_size


def ablate(
    config: Annotated[Path, typer.Argument(help="YAML file with a dataset, the models and grids of settings.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for ablation.json and ablation.md; settings it already has are not run again."),
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 8,
) -> None:
    """Compare settings of the method on a dataset.

    Prints a table with one row per setting.
    """
    with exit_on_error():
        from ovsr_gpu.evaluation.ablation import Plan, table
        from ovsr_gpu.evaluation.ablation import ablate as run
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.runtime.environment import describe_device
        from ovsr_gpu.segmenter import Segmenter

        check_batch_size(batch_size)
        plan = Plan.read(config)
        settings = len(plan.configs())
        torch_device = choose_device(device)
        log = console(stderr=True)
        log.print(f"Running on {torch_device} ({describe_device(torch_device)})")
        log.print(f"Scoring {plan.dataset} with {settings} settings")
        with progress_bar(log, None, "images") as show:
            rows = run(
                plan,
                lambda settings: Segmenter.from_pretrained(settings, device=torch_device),
                out,
                batch_size=batch_size,
                progress=show,
            )
        page = console()
        print_table(page, *table(rows))
        if out is not None:
            page.print(f"All scores of all rows are in {out}")
