"""The cases of the growth benchmark."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One call: `batch` images of `size` (width x height) with `regions` regions each, and `classes` class names."""

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
CPU_BATCH, CUDA_BATCH = 2, 16  # of the cases that do not vary it
MAX_CPU_BATCH = 8
LARGE_BATCHES = (64, 128)
SWEEPS: dict[str, tuple] = {
    "regions": (1, 2, 4, 8, 16),
    "size": ("320x240", "640x480", "1280x960", "2560x1920"),
    "classes": (20, 150, 847),
    "batch": (1, 2, 4, 8, 16, 32),
}
"""Values of each axis; the other axes keep the values of `base_case`."""


def base_case(device: str) -> Case:
    """Return the case that the sweeps vary.

    Args:
        device: "cpu", or the name or type of a GPU.
    """
    return Case(batch=CPU_BATCH if device == "cpu" else CUDA_BATCH)


def cases(device: str, full: bool) -> list[Case]:
    """Return all cases, the most important ones first, so that an interrupted run has measured them.

    Args:
        device: Type of a torch device.
        full: Whether to add large batches on CUDA.
    """
    base = base_case(device)
    batches = [batch for batch in SWEEPS["batch"] if device != "cpu" or batch <= MAX_CPU_BATCH]
    if full and device == "cuda":
        batches += LARGE_BATCHES
    selected = [
        Case(model, encoder, batch=batch) for encoder in ENCODERS for model in MODELS for batch in (1, base.batch)
    ]
    selected += [
        base._replace(encoder=encoder, regions=regions) for encoder in ENCODERS for regions in SWEEPS["regions"]
    ]
    selected += [base._replace(batch=batch) for batch in batches]
    selected += [base._replace(size=size) for size in SWEEPS["size"]]
    selected += [base._replace(classes=classes) for classes in SWEEPS["classes"]]
    second = base._replace(model=MODELS[1])
    selected += [second._replace(encoder=encoder, regions=regions) for encoder in ENCODERS for regions in (1, 4, 8, 16)]
    selected.append(Case(LARGE_MODEL, regions=2, batch=1) if device == "cpu" else base._replace(model=LARGE_MODEL))
    return list(dict.fromkeys(selected))


def tiny_cases() -> list[Case]:
    """Return the smallest case of each encoder, for tests of the benchmark itself."""
    return [Case(encoder=encoder, regions=2, size="320x240", batch=1) for encoder in ENCODERS]
