"""The outputs of a run beside its store: what writes each, and what it is called in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovsr_gpu.export.coco import write_coco
from ovsr_gpu.export.formats import Format
from ovsr_gpu.export.image_files import OverlayWriter, PaletteWriter
from ovsr_gpu.export.images_csv import FILE, write_images
from ovsr_gpu.export.jsonl import write_jsonl
from ovsr_gpu.export.panoptic import PanopticWriter, write_panoptic_json
from ovsr_gpu.export.webdataset import write_webdataset
from ovsr_gpu.store.record import Writer
from ovsr_gpu.store.store import Store
from ovsr_gpu.vocabulary import Vocabulary


@dataclass(frozen=True)
class Output:
    """files: what it leaves in the run's folder. writer: of a file an image. at_end: makes the rest from the store."""

    files: tuple[str, ...]
    writer: Callable[[Path, Vocabulary], Writer] | None = None
    at_end: Format | None = None


OUTPUTS = {
    "labels": Output(("labels", "classes.json"), writer=PaletteWriter),
    "overlays": Output(("overlays",), writer=OverlayWriter),
    "regions": Output(("regions.jsonl",), at_end=write_jsonl),
    "images": Output((FILE,), at_end=write_images),
    "coco": Output(("coco.json",), at_end=write_coco),
    "coco-panoptic": Output(("panoptic", "panoptic.json"), writer=PanopticWriter, at_end=write_panoptic_json),
    "webdataset": Output(("shards",), at_end=write_webdataset),
}
DEFAULT_OUTPUTS = ("labels", "overlays", "regions", "images", "coco")
OUTPUT_FILES = tuple(name for output in OUTPUTS.values() for name in output.files)


@dataclass(frozen=True)
class Outputs:
    """The outputs that are wanted in the folder `out`, by their names in `OUTPUTS`.

    Raises ValueError for a name that is not among them.
    """

    out: Path
    names: Sequence[str] = DEFAULT_OUTPUTS

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in OUTPUTS:
                raise ValueError(f"there is no output {name!r}; there are {', '.join(OUTPUTS)}")

    def open(self, vocabulary: Vocabulary) -> list[Writer]:
        """The writers of those with a file an image."""
        makers = [OUTPUTS[name].writer for name in self.names]
        return [maker(self.out, vocabulary) for maker in makers if maker is not None]

    def write_rest(self, vocabulary: Vocabulary) -> None:
        """Write what is made from the whole store."""
        store = Store(self.out)
        for name in self.names:
            at_end = OUTPUTS[name].at_end
            if at_end is not None:
                at_end(store.images, vocabulary.names, self.out)
