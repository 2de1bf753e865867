"""`ovsr eval`: evaluate the labels of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsr_gpu.commands.common import exit_on_error
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
    make_config,
    model_options,
)


def evaluate(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="Name of the dataset: voc20, ade20k-150, cityscapes-19, folder...")
    ],
    root: Annotated[Path, typer.Option(help="Folder of the dataset in its official layout.")],
    names: Annotated[
        Path | None, typer.Option("--list", help="Text file with the examples to evaluate, one per line.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the scores, as files and as a page.")] = None,
    withhold: Annotated[
        str, typer.Option(help='Classes to leave out of the vocabulary, for open-set scores: "dog; cat".')
    ] = "",
    protocol: Annotated[str | None, typer.Option(help="Settings and class names of published results: sclip.")] = None,
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
    """Evaluate the method on a labelled dataset.

    Scores: IoU, Hungarian mIoU, segments, boundaries, calibration, open set.
    """
    with exit_on_error():
        from ovsr_gpu.datasets import open_dataset
        from ovsr_gpu.evaluation.protocols import apply_protocol
        from ovsr_gpu.evaluation.report import summary_rows, write_report
        from ovsr_gpu.evaluation.report_page import write_page
        from ovsr_gpu.evaluation.runner import evaluate as run
        from ovsr_gpu.evaluation.runner import withhold_classes
        from ovsr_gpu.runtime.device import choose_device
        from ovsr_gpu.runtime.environment import describe_device
        from ovsr_gpu.segmenter import Segmenter
        from ovsr_gpu.stages.confusable import describe_confusable

        check_batch_size(batch_size)
        models = model_options(model, backbone_weights, clip, clip_weights)
        config = make_config(preset, threshold, something_else, min_area, encoder=encoder)
        withheld = [name.strip() for name in withhold.split(";") if name.strip()]
        torch_device = choose_device(device)
        data = open_dataset(dataset, root, names)
        if protocol is not None:
            if withheld or threshold is not None or something_else is not None:
                raise ValueError(
                    "--protocol fixes the open-set settings; leave out --withhold, --threshold and --something-else"
                )
            config, data = apply_protocol(protocol, config, data)
        log = console(stderr=True)
        log.print(f"Running on {torch_device} ({describe_device(torch_device)})")
        log.print("Loading the models")
        segmenter = Segmenter.from_pretrained(config, **models, device=torch_device)
        if pairs := segmenter.confusable(withhold_classes(data.vocabulary, withheld)[0]):
            log.print(describe_confusable(pairs))
        total = len(data.examples)
        part = f" of {data.expected_size}" if data.expected_size not in (None, total) else ""
        log.print(f"Evaluating on {total}{part} images of {data.name}")
        with progress_bar(log, total, "images") as show:
            result = run(
                segmenter, data, withheld=withheld, batch_size=batch_size, progress=lambda done: show(done, total)
            )
        page = console()
        speed = ("images/s, without reading and scoring", f"{result.images / result.seconds:.1f}")
        by = f", protocol {protocol}" if protocol is not None else ""
        print_section(page, f"{data.name}, {total}{part} images{by}, in percent", [*summary_rows(result), speed])
        if out is not None:
            write_report(result, data, segmenter, withheld, out, protocol)
            report = write_page(result, data, segmenter, withheld, out)
            page.print(f"All scores and the settings they depend on are in {out}; open {report} in a browser")
