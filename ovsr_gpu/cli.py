"""The command line: `ovsr label`, `ovsr gallery`, `ovsr export`, `ovsr demo` and `ovsr info`."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovsr_gpu import __version__
from ovsr_gpu.console import console, print_section, print_summary, progress_bar
from ovsr_gpu.errors import ModelError, OvsrError

# What takes long to import is imported by the commands, so that --help answers at once.
if TYPE_CHECKING:
    from ovsr_gpu.sources.picture import Picture

COUNTED = 50_000
SOME_FAILED, COULD_NOT_RUN, INTERRUPTED, STOPPED = 1, 2, 130, 143

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line.

    Exit status: 0 all done, 1 some pictures could not be labelled, 2 could not run, 130 interrupted, 143 stopped by
    SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name the terminal cannot show must not end the run
            stream.reconfigure(errors="backslashreplace")
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ovsr {__version__}")
        raise typer.Exit


@app.callback()
def ovsr(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Cut pictures into regions and name them out of a vocabulary given in plain words."""


@app.command()
def label(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="Picture files, folders (searched recursively), globs, tars, lists (.txt, .csv, .parquet) or URLs.",
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
        str | None, typer.Option("--vocabulary", help="The classes of a data set: voc20, coco-80, ade20k-150...")
    ] = None,
    preset: Annotated[str, typer.Option(help="Settings of the method: default or paper.")] = "default",
    model: Annotated[
        str | None,
        typer.Option(help="embedded: both networks of this package's synthetic world, not for photographs."),
    ] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="EfficientNet-B0: a torchvision tag or a checkpoint file; or embedded.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="CLIP: an open_clip model name or local-dir:PATH; or embedded.")
    ] = None,
    clip_weights: Annotated[str | None, typer.Option(help="A pretrained tag of that model or a file.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="What is less probable than this is something else, 0 to 1.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Most pictures that go through the networks together.")] = 8,
    gpu_decode: Annotated[
        bool, typer.Option("--gpu-decode", help="Decode JPEG files on the CUDA GPU, by torchcodec.")
    ] = False,
    compile_networks: Annotated[
        bool, typer.Option("--compile", help="Compile the networks first, which takes a minute or two.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="For job arrays: I/N labels each Nth picture from the Ith on, 1/4 to 4/4.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, however it ended, or with new pictures.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")] = False,
    max_errors: Annotated[int | None, typer.Option(help="Give up when more pictures than this have failed.")] = None,
) -> None:
    """Label pictures and write label maps, overlays and annotations.

    Pictures that cannot be read are listed in errors.jsonl and make the exit status 1.
    """
    with _plain_errors():
        from PIL import Image

        from ovsr_gpu.config import Config, ModelConfig
        from ovsr_gpu.embedded.networks import EMBEDDED, NOTICE
        from ovsr_gpu.environment import describe_device
        from ovsr_gpu.labelling import label_pictures, prepare_output
        from ovsr_gpu.models.device import choose_device
        from ovsr_gpu.ontology import read_ontology, ready_vocabulary
        from ovsr_gpu.sources.decode import decode_picture
        from ovsr_gpu.sources.files import iter_pictures
        from ovsr_gpu.sources.gpu_decode import GpuJpegDecoder
        from ovsr_gpu.sources.loading import Decode
        from ovsr_gpu.stages.vocabulary import Vocabulary

        # All arguments are looked at before the models are loaded.
        if sum(given is not None for given in (classes, classes_file, vocabulary_name)) != 1:
            raise ValueError("give the class names by one of --classes, --classes-file and --vocabulary")
        if batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1; got {batch_size}")
        if model is not None:
            if model != EMBEDDED or backbone_weights or clip or clip_weights:
                raise ValueError(
                    f"--model must be {EMBEDDED!r}, without --backbone-weights, --clip and --clip-weights; other "
                    "networks are chosen by these three"
                )
            backbone_weights = clip = EMBEDDED
        where = choose_device(device)
        config = Config(preset=preset, models=ModelConfig(compile=compile_networks))  # type: ignore[arg-type]  # checked by Config
        config = replace(config, recognition=replace(config.recognition, threshold=threshold))
        if classes_file is not None:
            vocabulary = read_ontology(classes_file)
        elif vocabulary_name is not None:
            vocabulary = ready_vocabulary(vocabulary_name)
        else:
            vocabulary = Vocabulary.parse(classes or "")
        first, step = _shard(shard or "1/1")
        pictures, total = _counted(islice(iter_pictures(sources, outside=out), first, None, step))
        prepare_output(out, overwrite=overwrite, resume=resume)

        say = console(stderr=True)
        say.print(f"Running on {where} ({describe_device(where)})")
        decode: Decode = decode_picture
        if gpu_decode:
            decode = GpuJpegDecoder(where)
            say.print(
                "JPEG files are decoded on the GPU, which gives what Pillow does up to rounding (tested just now)"
            )
        say.print("Loading the models")
        from ovsr_gpu.pipeline import Segmenter

        if EMBEDDED in (backbone_weights, clip):
            say.print(NOTICE)
        try:
            segmenter = Segmenter.from_pretrained(
                config, backbone_weights=backbone_weights, clip=clip, clip_weights=clip_weights, device=where
            )
        except ModelError as error:
            raise ModelError(
                f"{error}; to try the program out with the small models that it brings along: ovsr demo, or ovsr "
                "label --model embedded (a synthetic world of shapes and grounds, not for photographs)"
            ) from error
        say.print(f"Encoding {len(vocabulary)} class names (those met before come from the cache)")
        segmenter.embed_classes(vocabulary)
        if compile_networks or where.type == "cuda":
            say.print("Warming up: kernels are compiled for this device, and the networks if asked for")
            segmenter.warm_up(vocabulary)
        say.print(f"Labelling {total if total is not None else f'more than {COUNTED}'} pictures")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such pictures are reported as failed
        try:
            with progress_bar(say, total, "pictures") as show:
                summary = label_pictures(
                    segmenter,
                    pictures,
                    vocabulary,
                    out,
                    batch_size=batch_size,
                    decode=decode,
                    overwrite=overwrite,
                    resume=resume,
                    max_errors=max_errors,
                    progress=show,
                    stop=_asked_to_stop(),
                    say=say.print,
                )
        except KeyboardInterrupt:
            say.print(f"Interrupted; the pictures finished before are complete in {out}, and --resume goes on")
            raise typer.Exit(INTERRUPTED) from None
        print_summary(summary, out)
        if summary.interrupted:
            say.print(f"Stopped on request; the same command with --resume goes on in {out}")
            raise typer.Exit(STOPPED)
        if summary.failed:
            raise typer.Exit(SOME_FAILED)


@app.command()
def gallery(run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")]) -> None:
    """Make a page to look at a run: pictures under their class colours, filters, the least certain first, the errors.

    It opens from disk, without a server and without anything from elsewhere.
    """
    with _plain_errors():
        from ovsr_gpu.gallery.page import write_gallery
        from ovsr_gpu.runs.look import failures_of, pictures_of
        from ovsr_gpu.runs.manifest import class_names
        from ovsr_gpu.runs.store import Store

        classes, store = class_names(run), Store(run)
        total = len(store.names())
        with progress_bar(console(stderr=True), total, "pictures") as show:
            page = write_gallery(
                pictures_of(run, store),
                failures_of(store),
                classes,
                run,
                run.resolve().name,
                progress=lambda done: show(done, total),
            )
        console().print(f"Open {page}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a labelling run, finished or not.")],
    form: Annotated[str, typer.Option("--format", help="coco, coco-panoptic, yolo, voc or labelme.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
) -> None:
    """Write the results of a run in another format."""
    with _plain_errors():
        from ovsr_gpu.export.formats import export_run

        with progress_bar(console(stderr=True), None, "pictures") as show:
            export_run(run, form, out, show)
        console().print(f"The results of {run} stand in {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results; those of an earlier demo are replaced.")] = Path(
        "ovsr-demo"
    ),
    scenes: Annotated[int, typer.Option(help="How many scenes, at most 200.")] = 200,
    json: Annotated[Path | None, typer.Option(help="Write the scores into this file as well.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Label made pictures and score the result, offline.

    The models that come with this package know a small synthetic world of shapes and grounds; they are for demos, tests
    and offline trials, not for photographs.
    """
    with _plain_errors():
        from ovsr_gpu.embedded.demo import label_scenes, make_pictures, prepare_output
        from ovsr_gpu.embedded.networks import EMBEDDED, NOTICE
        from ovsr_gpu.embedded.scenes import TEST_SEEDS
        from ovsr_gpu.embedded.summary import write_summary
        from ovsr_gpu.environment import describe_device
        from ovsr_gpu.export.atomic import write_json
        from ovsr_gpu.models.device import choose_device
        from ovsr_gpu.pipeline import Segmenter

        if not 1 <= scenes <= len(TEST_SEEDS):
            raise ValueError(f"--scenes must lie in 1..{len(TEST_SEEDS)}; got {scenes}")
        where = choose_device(device)
        prepare_output(out, json)
        say = console(stderr=True)
        say.print(f"Running on {where} ({describe_device(where)})")
        say.print(NOTICE)
        segmenter = Segmenter.from_pretrained(backbone_weights=EMBEDDED, clip=EMBEDDED, device=where)
        say.print(f"Making {scenes} scenes")
        with progress_bar(say, scenes, "scenes") as show:
            made = make_pictures(out, scenes, show)
        say.print(f"Labelling {scenes} pictures")
        with progress_bar(say, scenes, "pictures") as show:
            labelled, scores = label_scenes(segmenter, out, made, show)
        summary = write_summary(out, labelled, scores)
        if json is not None:
            write_json(json, asdict(scores))
        page = console()
        rows = [
            ("labelled mIoU", f"{scores.labelled_miou:.3f}"),
            ("Hungarian mIoU", f"{scores.hungarian_miou:.3f}"),
            ("pictures/s", f"{scores.pictures_per_second:.1f}"),
        ]
        print_section(page, f"{scenes} scenes", rows)
        page.print(f"Look at {summary}; the pictures, their true label maps and all that was found stand beside it")


@app.command()
def info() -> None:
    """Show versions, devices, backends and cached weights."""
    with _plain_errors():
        from ovsr_gpu.environment import backends, cached_weights, devices, versions

        page = console()
        print_section(page, "Versions", list(versions().items()))
        print_section(page, "Devices", devices())
        print_section(page, "Backends", backends())
        page.print("  Where the Triton kernels can run they do the clustering; all else runs on torch.\n")
        print_section(page, "Cached weights", cached_weights() or [("none", "they are downloaded on first use")])


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn the errors a user can cause into one sentence and an exit status."""
    try:
        yield
    except (OvsrError, ValueError, OSError) as error:
        typer.echo(f"ovsr: {error}", err=True)
        raise typer.Exit(COULD_NOT_RUN) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _shard(wanted: str) -> tuple[int, int]:
    """The place of the first picture of a shard, and the distance from one to the next."""
    number, _, count = wanted.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard must be I/N with I from 1 to N; got {wanted!r}")
    return int(number) - 1, int(count)


def _counted(found: Iterator[Picture]) -> tuple[Iterable[Picture], int | None]:
    """The pictures, and how many there are; None where counting them all would take long."""
    first = list(islice(found, COUNTED))
    further = list(islice(found, 1))
    return (chain(first, further, found), None) if further else (first, len(first))


def _asked_to_stop() -> Callable[[], bool]:
    """Whether SIGTERM has come since, which from now on ends nothing by itself."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    return asked.is_set


if __name__ == "__main__":
    main()
