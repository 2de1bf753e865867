"""`ovsr eval`: how good the labels of a dataset are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import plain_errors
from ovsr_gpu.commands.console import console, print_section, progress_bar
from ovsr_gpu.commands.options import (
    BackboneWeights,
    BatchSize,
    Clip,
    ClipWeights,
    Device,
    Encoder,
    MinArea,
    Model,
    Preset,
    SomethingElse,
    Threshold,
    check_batch_size,
    chosen_models,
    make_config,
)


def evaluate(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="voc20, ade20k-150, cityscapes-19, folder...")],
    root: Annotated[Path, typer.Option(help="Folder of the dataset, as its makers lay it out.")],
    names: Annotated[
        Path | None, typer.Option("--list", help="Text file with the examples to keep, one a line.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the scores, as files and as a page.")] = None,
    withhold: Annotated[
        str, typer.Option(help='Classes kept out of the vocabulary, for the open set: "dog; cat".')
    ] = "",
    protocol: Annotated[str | None, typer.Option(help="Settings and words of published figures: sclip.")] = None,
    something_else: SomethingElse = None,
    threshold: Threshold = None,
    min_area: MinArea = None,
    encoder: Encoder = "crop",
    preset: Preset = "default",
    model: Model = None,
    backbone_weights: BackboneWeights = None,
    clip: Clip = None,
    clip_weights: ClipWeights = None,
    device: Device = "auto",
    batch_size: BatchSize = 8,
) -> None:
    """Label a dataset and score the labels: IoU, Hungarian mIoU, segments, boundaries, calibration, open set."""
    with plain_errors():
        from ovsr_gpu.datasets import open_dataset
        from ovsr_gpu.evaluation.protocols import under_protocol
        from ovsr_gpu.evaluation.report import headline, write_report
        from ovsr_gpu.evaluation.report_page import write_page
        from ovsr_gpu.evaluation.runner import evaluate as run
        from ovsr_gpu.evaluation.runner import without
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.runtime.environment import describe_device
        from ovsr_gpu.segmenter import Segmenter
        from ovsr_gpu.stages.confusable import describe_confusable

        check_batch_size(batch_size)
        models = chosen_models(model, backbone_weights, clip, clip_weights)
        config = make_config(preset, threshold, something_else, min_area, encoder=encoder)
        withheld = [name.strip() for name in withhold.split(";") if name.strip()]
        where = choose_device(device)
        data = open_dataset(dataset, root, names)
        if protocol is not None:
            if withheld or threshold is not None or something_else is not None:
                raise ValueError(
                    "--protocol fixes the open set; leave out --withhold, --threshold and --something-else"
                )
            config, data = under_protocol(protocol, config, data)
        log = console(stderr=True)
        log.print(f"Running on {where} ({describe_device(where)})")
        log.print("Loading the models")
        segmenter = Segmenter.from_pretrained(config, **models, device=where)
        if pairs := segmenter.confusable(without(data.vocabulary, withheld)[0]):
            log.print(describe_confusable(pairs))
        total = len(data.examples)
        part = f" of {data.full_size}" if data.full_size not in (None, total) else ""
        log.print(f"Evaluating on {total}{part} images of {data.name}")
        with progress_bar(log, total, "images") as show:
            found = run(
                segmenter, data, withheld=withheld, batch_size=batch_size, progress=lambda done: show(done, total)
            )
        page = console()
        speed = ("images/s, the method alone", f"{found.images / found.seconds:.1f}")
        by = f", protocol {protocol}" if protocol is not None else ""
        print_section(page, f"{data.name}, {total}{part} images{by}, in percent", [*headline(found), speed])
        if out is not None:
            write_report(found, data, segmenter, withheld, out, protocol)
            shown = write_page(found, data, segmenter, withheld, out)
            page.print(f"All scores, with what they depend on, stand in {out}; open {shown} in a browser")
