"""Formats that are made of a finished run, or of one so far: the store has all that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ovsr_gpu.export.coco import write_coco
from ovsr_gpu.export.label_studio import write_label_studio
from ovsr_gpu.export.labelme import write_labelme
from ovsr_gpu.export.panoptic import write_panoptic
from ovsr_gpu.export.voc import write_voc
from ovsr_gpu.export.webdataset import write_webdataset
from ovsr_gpu.export.yolo import write_yolo
from ovsr_gpu.store.manifest import class_names
from ovsr_gpu.store.store import ImageReader, Row, Store

Format = Callable[[ImageReader, Sequence[str], Path], None]

FORMATS: dict[str, Format] = {
    "coco": write_coco,
    "coco-panoptic": write_panoptic,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "webdataset": write_webdataset,
    "label-studio": write_label_studio,
}
"""What writes each format into a folder."""


def export_run(
    run: Path,
    format: str,
    out: Path,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Write the images of the run in the folder `run` into the folder `out` in one of `FORMATS`.

    Images are referred to by their paths, not copied. `progress` is called with the number of images done and of
    all images; some formats go through them two or three times, and so does it.

    Raises ValueError for an unknown format, an output folder that is not empty, a run that is none, and for what the
    format cannot express.
    """
    if format not in FORMATS:
        raise ValueError(f"the format {format!r} is not known; choose one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"the output {str(out)!r} is not an empty folder; name another one")
    classes, store = class_names(run), Store(run)
    total = len(store.names()) - sum(1 for _ in store.failures())

    def images(columns: Sequence[str]) -> Iterator[list[Row]]:
        for done, regions in enumerate(store.images(columns), start=1):
            yield regions
            progress(done, total)

    FORMATS[format](images, classes, out)
