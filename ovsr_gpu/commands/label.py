"""`ovsr label`: label images and write the results."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovsr_gpu.commands.common import INTERRUPTED, SOME_FAILED, STOPPED, exit_on_error
from ovsr_gpu.commands.console import console, print_summary, progress_bar
from ovsr_gpu.commands.options import (
    BackboneWeights,
    BatchSize,
    Clip,
    ClipWeights,
    MinArea,
    Model,
    Preset,
    SomethingElse,
    Threshold,
    check_batch_size,
    make_config,
    model_options,
)
from ovsr_gpu.errors import ModelError

# Modules that take long to import are imported inside the functions, so that --help is fast.
if TYPE_CHECKING:
    from ovsr_gpu.runs.engines.job import Job
    from ovsr_gpu.runs.session import Engine
    from ovsr_gpu.runtime.callbacks import Log
    from ovsr_gpu.sources.image_source import ImageSource
    from ovsr_gpu.vocabulary import Vocabulary

MAX_COUNTED = 50_000
"""If there are more images, their number is not determined before the run."""


def label(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="Images, videos, folders (searched recursively), globs, tars, lists (.txt, .csv, .parquet) or URLs.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    classes: Annotated[
        str | None, typer.Option(help='Class names, with synonyms after commas: "dog; grass, lawn; sky".')
    ] = None,
    classes_file: Annotated[
        Path | None,
        typer.Option(
            help="Text file with one class per line, synonyms after commas or semicolons; or a YAML or JSON map."
        ),
    ] = None,
    vocabulary_name: Annotated[
        str | None, typer.Option("--vocabulary", help="Classes of a dataset: voc20, coco-80, ade20k-150...")
    ] = None,
    something_else: SomethingElse = None,
    threshold: Threshold = None,
    min_area: MinArea = None,
    preset: Preset = "default",
    model: Model = None,
    backbone_weights: BackboneWeights = None,
    clip: Clip = None,
    clip_weights: ClipWeights = None,
    outputs: Annotated[
        str,
        typer.Option(help="What to write: labels, overlays, regions, images, coco, coco-panoptic, webdataset."),
    ] = "labels,overlays,regions,images,coco",
    devices: Annotated[
        str,
        typer.Option(
            "--device",
            "--devices",
            help="Devices: auto, cpu, cuda, cuda:N or mps, several separated by commas; or all (CUDA GPUs).",
        ),
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option(help="Run on local (this machine) or ray (a Ray cluster, with --devices all or cpu,cpu,...)."),
    ] = "local",
    batch_size: BatchSize = 8,
    gpu_decode: Annotated[
        bool, typer.Option("--gpu-decode", help="Decode JPEG files on the CUDA GPU with torchcodec.")
    ] = False,
    compile_networks: Annotated[
        bool, typer.Option("--compile", help="Compile the networks first; takes a minute or two.")
    ] = False,
    frame_stride: Annotated[int | None, typer.Option(metavar="N", help="Label every Nth frame of videos.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="For job arrays: I/N labels every Nth image from the Ith on, such as 1/4, 2/4, 3/4, 4/4."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in the folder, after any interruption or with new images."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")] = False,
    max_errors: Annotated[int | None, typer.Option(help="Stop when more images than this have failed.")] = None,
) -> None:
    """Label images and write label maps, overlays and annotations.

    Images that cannot be labelled are listed in errors.jsonl; the exit status is then 1.
    """
    with exit_on_error():
        from PIL import Image

        from ovsr_gpu.export.outputs import Outputs
        from ovsr_gpu.models.embedded import EMBEDDED, NOTICE
        from ovsr_gpu.runs.engines.job import Job
        from ovsr_gpu.runs.session import RunCallbacks, RunOptions, label_images, prepare_run_folder
        from ovsr_gpu.sources.files import iter_images

        # All arguments are checked before the models are loaded.
        check_batch_size(batch_size)
        models = model_options(model, backbone_weights, clip, clip_weights)
        config = make_config(preset, threshold, something_else, min_area, compile=compile_networks)
        vocabulary = _vocabulary(classes, classes_file, vocabulary_name)
        job = Job(config, vocabulary, **models, gpu_decode=gpu_decode)
        output_names = Outputs(out, [name.strip() for name in outputs.split(",")]).names
        options = RunOptions(output_names, batch_size, overwrite, resume, max_errors)
        log = console(stderr=True)
        stop = _StopRequest(log.print)
        start = _engine(engine, devices, job, log.print, stop)
        first, step = _shard(shard or "1/1")
        images, total = _count(islice(iter_images(sources, exclude=out, frame_stride=frame_stride), first, None, step))
        prepare_run_folder(out, overwrite=overwrite, resume=resume)

        if EMBEDDED in models.values():
            log.print(NOTICE)
        try:
            running = start()
        except ModelError as error:
            raise ModelError(
                f"{error}; to try ovsr with the small models that come with it, run ovsr demo, or ovsr label "
                "--model embedded (for a synthetic world of shapes and backgrounds, not for photographs)"
            ) from error
        log.print(f"Labelling {total if total is not None else f'more than {MAX_COUNTED}'} images")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are reported as failed
        try:
            with stop.on_signals(), running as labelling_engine, progress_bar(log, total, "images") as show:
                summary = label_images(labelling_engine, images, out, options, RunCallbacks(show, stop, log.print))
        except KeyboardInterrupt:
            log.print(f"Interrupted; all finished images are complete in {out}, and --resume continues the run")
            raise typer.Exit(INTERRUPTED) from None
        print_summary(summary, out)
        if summary.interrupted:
            log.print(f"Stopped on request; the same command with --resume continues the run in {out}")
            raise typer.Exit(INTERRUPTED if stop.signal_number == signal.SIGINT else STOPPED)
        if summary.failed:
            raise typer.Exit(SOME_FAILED)


def _vocabulary(classes: str | None, classes_file: Path | None, name: str | None) -> Vocabulary:
    from ovsr_gpu.vocabulary import Vocabulary, builtin_vocabulary, read_vocabulary

    if sum(option is not None for option in (classes, classes_file, name)) != 1:
        raise ValueError("pass the class names with exactly one of --classes, --classes-file and --vocabulary")
    if classes_file is not None:
        return read_vocabulary(classes_file)
    return builtin_vocabulary(name) if name is not None else Vocabulary.parse(classes or "")


def _engine(
    engine: str, devices: str, job: Job, log: Log, stop: Callable[[], bool]
) -> Callable[[], AbstractContextManager[Engine]]:
    """Return a function that starts the engine, which takes a while."""
    from ovsr_gpu.runs.engines.processes import ProcessEngine
    from ovsr_gpu.runs.engines.ray_data import RayEngine, choose_workers
    from ovsr_gpu.runtime.device import choose_devices

    if engine == "ray":
        workers, on_gpus = choose_workers(devices)
        return lambda: closing(RayEngine(job, workers, on_gpus=on_gpus, log=log, stop=stop))
    if engine != "local":
        raise ValueError(f"--engine must be local or ray; got {engine!r}")
    chosen = choose_devices(devices)
    if len(chosen) > 1:
        return lambda: closing(ProcessEngine(job, chosen, log))
    return lambda: nullcontext(job.worker(chosen[0], log))


def _shard(shard: str) -> tuple[int, int]:
    """Parse I/N; return the index of the first image and the step to the next one."""
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard must be I/N with I from 1 to N; got {shard!r}")
    return int(number) - 1, int(count)


def _count(images: Iterator[ImageSource]) -> tuple[Iterable[ImageSource], int | None]:
    """Return the images and their number, None if there are more than `MAX_COUNTED`."""
    first = list(islice(images, MAX_COUNTED))
    further = list(islice(images, 1))
    return (chain(first, further, images), None) if further else (first, len(first))


class _StopRequest:
    """Whether a signal has requested that the run stops after the images in progress."""

    def __init__(self, log: Log) -> None:
        self.signal_number: int | None = None
        self._log = log

    def __call__(self) -> bool:
        return self.signal_number is not None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Stop the run on SIGTERM or Ctrl-C; a second Ctrl-C ends it immediately."""
        before = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number
        self._log("Finishing the images in progress; press Ctrl-C again to end immediately")
