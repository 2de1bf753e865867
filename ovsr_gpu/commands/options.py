"""Options that several commands have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ovsr_gpu.config import Config

Preset = Annotated[str, typer.Option(help="Preset of the method: default, paper, quality or fine.")]
SomethingElse = Annotated[
    str | None,
    typer.Option(help='Prompts for regions of no class, such as "something else; a blank wall"; "" to turn it off.'),
]
Threshold = Annotated[
    float | None, typer.Option(help="Regions whose best class is less probable become something else, 0 to 1.")
]
MinArea = Annotated[
    float | None, typer.Option(help="Merge regions smaller than this fraction of the image into a neighbor, 0 to 1.")
]
Encoder = Annotated[str, typer.Option(help="Input of CLIP: crop (each region) or dense (the whole image once).")]
Model = Annotated[
    str | None,
    typer.Option(help="embedded: the small networks that come with ovsr, for its synthetic demo, not for photographs."),
]
BackboneWeights = Annotated[
    str | None, typer.Option(help="EfficientNet-B0 weights: a torchvision tag, a checkpoint file, or embedded.")
]
Clip = Annotated[str | None, typer.Option(help="CLIP model: an open_clip model name, local-dir:PATH, or embedded.")]
ClipWeights = Annotated[str | None, typer.Option(help="CLIP weights: a pretrained tag of that model, or a file.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int, typer.Option(help="Number of images that go through the networks together.")]


def make_config(
    preset: str,
    threshold: float | None,
    something_else: str | None,
    min_area: float | None,
    *,
    encoder: str = "crop",
    compile: bool = False,
) -> Config:
    """Return the configuration for these options.

    Args:
        preset: Name of the preset.
        threshold: Value of `--threshold`.
        something_else: Value of `--something-else`.
        min_area: Value of `--min-area`.
        encoder: Value of `--encoder`.
        compile: Whether to compile the networks.

    Returns:
        The configuration.

    Raises:
        ValueError: A value is out of range.
    """
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


def model_options(
    model: str | None, backbone_weights: str | None, clip: str | None, clip_weights: str | None
) -> dict[str, str | None]:
    """Return the model arguments of `Segmenter.from_pretrained` for these options.

    Args:
        model: Value of `--model`.
        backbone_weights: Value of `--backbone-weights`.
        clip: Value of `--clip`.
        clip_weights: Value of `--clip-weights`.

    Returns:
        The arguments by name.

    Raises:
        ValueError: `model` is not "embedded", or is combined with the other options.
    """
    from ovsr_gpu.models.embedded import EMBEDDED

    if model is not None:
        if model != EMBEDDED or backbone_weights or clip or clip_weights:
            raise ValueError(
                f"--model must be {EMBEDDED!r}, without --backbone-weights, --clip and --clip-weights; use these three "
                "options to choose other networks"
            )
        backbone_weights = clip = EMBEDDED
    return {"backbone_weights": backbone_weights, "clip": clip, "clip_weights": clip_weights}


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError if the batch size is less than 1."""
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1; got {batch_size}")
