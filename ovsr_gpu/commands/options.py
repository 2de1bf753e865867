"""Options that several commands have, and what they mean for the method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ovsr_gpu.config import Config

Preset = Annotated[str, typer.Option(help="Settings of the method: default, paper, quality or fine.")]
SomethingElse = Annotated[
    str | None,
    typer.Option(help='Prompts for what is in no class: "something else; a blank wall"; "" for none.'),
]
Threshold = Annotated[float | None, typer.Option(help="What is less probable than this is something else, 0 to 1.")]
MinArea = Annotated[float | None, typer.Option(help="Smaller regions go to a neighbor: fraction of the image, 0 to 1.")]
Encoder = Annotated[str, typer.Option(help="What CLIP sees: crop, each region; dense, the image once.")]
Model = Annotated[
    str | None,
    typer.Option(help="embedded: both networks of this package's synthetic world, not for photographs."),
]
BackboneWeights = Annotated[
    str | None, typer.Option(help="EfficientNet-B0: a torchvision tag or a checkpoint file; or embedded.")
]
Clip = Annotated[str | None, typer.Option(help="CLIP: an open_clip model name or local-dir:PATH; or embedded.")]
ClipWeights = Annotated[str | None, typer.Option(help="A pretrained tag of that model or a file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int, typer.Option(help="Images that go through the networks together.")]


def make_config(
    preset: str,
    threshold: float | None,
    something_else: str | None,
    min_area: float | None,
    *,
    encoder: str = "crop",
    compile: bool = False,
) -> Config:
    """The settings that these options ask for. Raises ValueError where they are out of range."""
    from ovsr_gpu.config import Config, ModelConfig

    config = Config(preset=preset, models=ModelConfig(compile=compile))  # type: ignore[arg-type]  # checked by Config
    recognition = replace(config.recognition, threshold=threshold)
    if something_else is not None:
        prompts = tuple(prompt.strip() for prompt in something_else.split(";")) if something_else.strip() else ()
        recognition = replace(recognition, something_else=prompts)
    regions = replace(config.regions, encoder=encoder)  # type: ignore[arg-type]  # checked by RegionConfig
    if min_area is not None:
        regions = replace(regions, min_area=min_area)
    return replace(config, recognition=recognition, regions=regions)


def chosen_models(
    model: str | None, backbone_weights: str | None, clip: str | None, clip_weights: str | None
) -> dict[str, str | None]:
    """What `Segmenter.from_pretrained` is to load. Raises ValueError where `model` contradicts the rest."""
    from ovsr_gpu.models.embedded import EMBEDDED

    if model is not None:
        if model != EMBEDDED or backbone_weights or clip or clip_weights:
            raise ValueError(
                f"--model must be {EMBEDDED!r}, without --backbone-weights, --clip and --clip-weights; other networks "
                "are chosen by these three"
            )
        backbone_weights = clip = EMBEDDED
    return {"backbone_weights": backbone_weights, "clip": clip, "clip_weights": clip_weights}


def check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1; got {batch_size}")
