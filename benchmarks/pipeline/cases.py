"""The cases of the growth benchmark."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One call: `batch` images of `size` (width x height) with `regions` areas each, and `classes` names for them."""

    model: str = "ViT-B-32"
    encoder: str = "crop"
    regions: int = 8
    size: str = "640x480"
    classes: int = 20
    batch: int = 16

    def __str__(self) -> str:
        return f"{self.model}-{self.encoder}-N{self.regions}-{self.size}-L{self.classes}-B{self.batch}"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        width, height = map(int, self.size.split("x"))
        return height, width


MODELS, LARGE_MODEL = ("ViT-B-32", "ViT-B-16"), "ViT-L-14"
ENCODERS = ("crop", "dense")
CPU_BATCH, CUDA_BATCH = 2, 16  # where it is not varied
MAX_CPU_BATCH = 8
LARGE_BATCHES = (64, 128)
SWEEPS: dict[str, tuple] = {
    "regions": (1, 2, 4, 8, 16),
    "size": ("320x240", "640x480", "1280x960", "2560x1920"),
    "classes": (20, 150, 847),
    "batch": (1, 2, 4, 8, 16, 32),
}
"""Values of each axis while the others stay at those of `base_case`."""


def base_case(device: str) -> Case:
    """The case that the sweeps go out from. device: "cpu" or the name or type of a GPU."""
    return Case(batch=CPU_BATCH if device == "cpu" else CUDA_BATCH)


def cases(device: str, full: bool) -> list[Case]:
    """All cases, those that matter most first, so that a run cut short has them; with `full` large batches on CUDA.

    device: a type of torch's.
    """
    base = base_case(device)
    batches = [batch for batch in SWEEPS["batch"] if device != "cpu" or batch <= MAX_CPU_BATCH]
    if full and device == "cuda":
        batches += LARGE_BATCHES
    chosen = [
        Case(model, encoder, batch=batch) for encoder in ENCODERS for model in MODELS for batch in (1, base.batch)
    ]
    chosen += [base._replace(encoder=encoder, regions=regions) for encoder in ENCODERS for regions in SWEEPS["regions"]]
    chosen += [base._replace(batch=batch) for batch in batches]
    chosen += [base._replace(size=size) for size in SWEEPS["size"]]
    chosen += [base._replace(classes=classes) for classes in SWEEPS["classes"]]
    second = base._replace(model=MODELS[1])
    chosen += [second._replace(encoder=encoder, regions=regions) for encoder in ENCODERS for regions in (1, 4, 8, 16)]
    chosen.append(Case(LARGE_MODEL, regions=2, batch=1) if device == "cpu" else base._replace(model=LARGE_MODEL))
    return list(dict.fromkeys(chosen))


def tiny_cases() -> list[Case]:
    """The least work that runs each encoder: for a trial of the benchmark."""
    return [Case(encoder=encoder, regions=2, size="320x240", batch=1) for encoder in ENCODERS]
