"""`ovsr label`: label images and write what was found."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovsr_gpu.commands.common import INTERRUPTED, SOME_FAILED, STOPPED, plain_errors
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
    chosen_models,
    make_config,
)
from ovsr_gpu.errors import ModelError

# What takes long to import is imported by the command, so that --help answers at once.
if TYPE_CHECKING:
    from ovsr_gpu.runs.engines.job import Job
    from ovsr_gpu.runs.session import Engine
    from ovsr_gpu.runtime.callbacks import Log
    from ovsr_gpu.sources.image_source import ImageSource
    from ovsr_gpu.vocabulary import Vocabulary

COUNTED = 50_000


def label(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="ImageReader, videos, folders (searched recursively), globs, tars, lists (.txt, .csv, .parquet) or URLs.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    classes: Annotated[str | None, typer.Option(help='Class names with synonyms: "dog; grass, lawn; sky".')] = None,
    classes_file: Annotated[
        Path | None,
        typer.Option(
            help="Text file: a class a line, synonyms after commas or semicolons; or YAML or JSON with a map."
        ),
    ] = None,
    vocabulary_name: Annotated[
        str | None, typer.Option("--vocabulary", help="The classes of a dataset: voc20, coco-80, ade20k-150...")
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
        typer.Option(help="Beside the store: labels, overlays, regions, images, coco, coco-panoptic, webdataset."),
    ] = "labels,overlays,regions,images,coco",
    devices: Annotated[
        str,
        typer.Option(
            "--device", "--devices", help="auto, cpu, cuda, cuda:N or mps; several with commas; all: every CUDA GPU."
        ),
    ] = "auto",
    engine: Annotated[
        str, typer.Option(help="local: this machine; ray: a Ray cluster, with --devices all or cpu,cpu,...")
    ] = "local",
    batch_size: BatchSize = 8,
    gpu_decode: Annotated[
        bool, typer.Option("--gpu-decode", help="Decode JPEG files on the CUDA GPU, by torchcodec.")
    ] = False,
    compile_networks: Annotated[
        bool, typer.Option("--compile", help="Compile the networks first, which takes a minute or two.")
    ] = False,
    frame_stride: Annotated[int | None, typer.Option(metavar="N", help="Label each Nth frame of videos.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="For job arrays: I/N labels each Nth image from the Ith on, 1/4 to 4/4.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, however it ended, or with new images.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")] = False,
    max_errors: Annotated[int | None, typer.Option(help="Give up when more images than this have failed.")] = None,
) -> None:
    """Label images and write label maps, overlays and annotations.

    Images that cannot be read are listed in errors.jsonl and make the exit status 1.
    """
    with plain_errors():
        from PIL import Image

        from ovsr_gpu.export.outputs import Outputs
        from ovsr_gpu.models.embedded import EMBEDDED, NOTICE
        from ovsr_gpu.runs.engines.job import Job
        from ovsr_gpu.runs.session import RunCallbacks, RunOptions, label_images, prepare_output
        from ovsr_gpu.sources.files import iter_images

        # All arguments are looked at before the models are loaded.
        check_batch_size(batch_size)
        models = chosen_models(model, backbone_weights, clip, clip_weights)
        config = make_config(preset, threshold, something_else, min_area, compile=compile_networks)
        vocabulary = _vocabulary(classes, classes_file, vocabulary_name)
        job = Job(config, vocabulary, **models, gpu_decode=gpu_decode)
        wanted = Outputs(out, [name.strip() for name in outputs.split(",")]).names
        options = RunOptions(wanted, batch_size, overwrite, resume, max_errors)
        log = console(stderr=True)
        stop = _Stop(log.print)
        start = _engine(engine, devices, job, log.print, stop)
        first, step = _shard(shard or "1/1")
        images, total = _counted(
            islice(iter_images(sources, outside=out, frame_stride=frame_stride), first, None, step)
        )
        prepare_output(out, overwrite=overwrite, resume=resume)

        if EMBEDDED in models.values():
            log.print(NOTICE)
        try:
            running = start()
        except ModelError as error:
            raise ModelError(
                f"{error}; to try the program out with the small models that it brings along: ovsr demo, or ovsr "
                "label --model embedded (a synthetic world of shapes and grounds, not for photographs)"
            ) from error
        log.print(f"Labelling {total if total is not None else f'more than {COUNTED}'} images")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are reported as failed
        try:
            with stop.on_signals(), running as labelling, progress_bar(log, total, "images") as show:
                summary = label_images(labelling, images, out, options, RunCallbacks(show, stop, log.print))
        except KeyboardInterrupt:
            log.print(f"Interrupted; the images finished before are complete in {out}, and --resume goes on")
            raise typer.Exit(INTERRUPTED) from None
        print_summary(summary, out)
        if summary.interrupted:
            log.print(f"Stopped on request; the same command with --resume goes on in {out}")
            raise typer.Exit(INTERRUPTED if stop.asked_by == signal.SIGINT else STOPPED)
        if summary.failed:
            raise typer.Exit(SOME_FAILED)


def _vocabulary(classes: str | None, classes_file: Path | None, name: str | None) -> Vocabulary:
    from ovsr_gpu.vocabulary import Vocabulary, read_ontology, ready_vocabulary

    if sum(given is not None for given in (classes, classes_file, name)) != 1:
        raise ValueError("give the class names by one of --classes, --classes-file and --vocabulary")
    if classes_file is not None:
        return read_ontology(classes_file)
    return ready_vocabulary(name) if name is not None else Vocabulary.parse(classes or "")


def _engine(
    engine: str, devices: str, job: Job, log: Log, stop: Callable[[], bool]
) -> Callable[[], AbstractContextManager[Engine]]:
    """What starts the engine, which takes its time."""
    from ovsr_gpu.runs.engines.processes import Processes
    from ovsr_gpu.runs.engines.ray_data import RayData, choose_workers
    from ovsr_gpu.runtime.device import choose_devices

    if engine == "ray":
        workers, on_gpus = choose_workers(devices)
        return lambda: closing(RayData(job, workers, on_gpus=on_gpus, log=log, stop=stop))
    if engine != "local":
        raise ValueError(f"--engine must be local or ray; got {engine!r}")
    chosen = choose_devices(devices)
    if len(chosen) > 1:
        return lambda: closing(Processes(job, chosen, log))
    return lambda: nullcontext(job.worker(chosen[0], log))


def _shard(wanted: str) -> tuple[int, int]:
    """The place of the first image of a shard, and the distance from one to the next."""
    number, _, count = wanted.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard must be I/N with I from 1 to N; got {wanted!r}")
    return int(number) - 1, int(count)


def _counted(found: Iterator[ImageSource]) -> tuple[Iterable[ImageSource], int | None]:
    """The images, and how many there are; None where counting them all would take long."""
    first = list(islice(found, COUNTED))
    further = list(islice(found, 1))
    return (chain(first, further, found), None) if further else (first, len(first))


class _Stop:
    """Whether a signal has asked the run to stop: to finish what it has begun, and no more."""

    def __init__(self, log: Log) -> None:
        self.asked_by: int | None = None
        self._log = log

    def __call__(self) -> bool:
        return self.asked_by is not None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C ask; a second Ctrl-C ends the run at once."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked_by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked_by = self.asked_by or number
        self._log("Finishing the images that were begun; Ctrl-C ends at once")
