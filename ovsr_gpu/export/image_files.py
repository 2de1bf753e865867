"""Label maps and overlays: one file per image, written during the run."""

from __future__ import annotations

from pathlib import Path

from ovsr_gpu.drawing.overlay import draw_overlay
from ovsr_gpu.drawing.palette import Array, class_colors, label_image
from ovsr_gpu.runtime.atomic import atomic_write, write_json
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary


class OverlayWriter:
    """Writer of `overlays/<name>.jpg`, see `drawing.overlay.draw_overlay`; an `ImageWriter`.

    Args:
        out: The run's folder.
        vocabulary: The classes.
    """

    def __init__(self, out: Path, vocabulary: Vocabulary) -> None:
        self._folder = out / "overlays"
        self._names = [*vocabulary.names, SOMETHING_ELSE]
        self._colors = class_colors(len(vocabulary))

    def write(self, record: LabelledImage) -> None:
        """Write the overlay of one image."""
        image = draw_overlay(record.pixels, record.class_map, record.region_map, self._names, self._colors)
        with atomic_write(self._folder / f"{record.source.name}.jpg") as file:
            image.save(file, format="JPEG", quality=90, subsampling=0)


class PaletteWriter:
    """Writer of `labels/<name>.png`, whose pixels are class indices, and of `classes.json`, which names the classes.

    With up to 255 classes the PNG has a palette, with more it is 16-bit gray. An `ImageWriter`.

    Args:
        out: The run's folder.
        vocabulary: The classes.

    Raises:
        ValueError: There are more than 65535 classes.
    """

    def __init__(self, out: Path, vocabulary: Vocabulary) -> None:
        num_classes = len(vocabulary.names)
        if num_classes > 65535:
            raise ValueError(f"label maps hold at most 65535 classes; got {num_classes}")
        self._folder = out / "labels"
        self._colors = class_colors(num_classes)
        write_json(out / "classes.json", _describe(vocabulary, self._colors))

    def write(self, record: LabelledImage) -> None:
        """Write the label map of one image."""
        image = label_image(record.class_map, self._colors)
        with atomic_write(self._folder / f"{record.source.name}.png") as file:
            image.save(file, format="PNG")


def _describe(vocabulary: Vocabulary, colors: Array) -> dict[str, object]:
    return {
        "classes": [
            {
                "index": index,
                "name": name,
                "synonyms": [synonym for synonym in synonyms if synonym != name],
                "color": colors[index].tolist(),
            }
            for index, (name, synonyms) in enumerate(zip(vocabulary.names, vocabulary.synonyms, strict=True))
        ],
        "something_else": {"index": len(vocabulary.names), "name": SOMETHING_ELSE, "color": colors[-1].tolist()},
    }
