"""The outputs that a run writes next to its store: their names, their files and their writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovsr_gpu.export.coco_annotations import write_coco
from ovsr_gpu.export.formats import FormatWriter
from ovsr_gpu.export.image_files import OverlayWriter, PaletteWriter
from ovsr_gpu.export.images_csv import IMAGES_CSV, write_images_csv
from ovsr_gpu.export.jsonl import write_jsonl
from ovsr_gpu.export.panoptic import PanopticWriter, write_panoptic_json
from ovsr_gpu.export.webdataset import write_webdataset
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.record import ImageWriter
from ovsr_gpu.vocabulary import Vocabulary


@dataclass(frozen=True)
class Output:
    """An output of a run.

    Attributes:
        files: Names of the files and folders that it creates in the run's folder.
        writer: Makes the writer of the files of single images, called with the run's folder and the vocabulary.
        at_end: Writes the files that cover the whole run, from the store.
    """

    files: tuple[str, ...]
    writer: Callable[[Path, Vocabulary], ImageWriter] | None = None
    at_end: FormatWriter | None = None


OUTPUTS: dict[str, Output] = {
    "labels": Output(("labels", "classes.json"), writer=PaletteWriter),
    "overlays": Output(("overlays",), writer=OverlayWriter),
    "regions": Output(("regions.jsonl",), at_end=write_jsonl),
    "images": Output((IMAGES_CSV,), at_end=write_images_csv),
    "coco": Output(("coco.json",), at_end=write_coco),
    "coco-panoptic": Output(("panoptic", "panoptic.json"), writer=PanopticWriter, at_end=write_panoptic_json),
    "webdataset": Output(("shards",), at_end=write_webdataset),
}
"""Output name -> the output."""

DEFAULT_OUTPUTS = ("labels", "overlays", "regions", "images", "coco")
OUTPUT_FILES = tuple(name for output in OUTPUTS.values() for name in output.files)


@dataclass(frozen=True)
class Outputs:
    """The outputs selected for a run.

    Attributes:
        out: The run's folder.
        names: Keys of `OUTPUTS`.

    Raises:
        ValueError: A name is not in `OUTPUTS`.
    """

    out: Path
    names: Sequence[str] = DEFAULT_OUTPUTS

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in OUTPUTS:
                raise ValueError(f"there is no output {name!r}; available outputs: {', '.join(OUTPUTS)}")

    def open_writers(self, vocabulary: Vocabulary) -> list[ImageWriter]:
        """Return the writers of the outputs with one file per image."""
        makers = [OUTPUTS[name].writer for name in self.names]
        return [maker(self.out, vocabulary) for maker in makers if maker is not None]

    def write_at_end(self, vocabulary: Vocabulary) -> None:
        """Write the outputs that cover the whole run, from its store."""
        store = Store(self.out)
        for name in self.names:
            at_end = OUTPUTS[name].at_end
            if at_end is not None:
                at_end(store.images, vocabulary.names, self.out)
