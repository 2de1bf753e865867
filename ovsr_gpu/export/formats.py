"""The formats that `ovsr export` writes from the store of a run, finished or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ovsr_gpu.export.coco_annotations import write_coco
from ovsr_gpu.export.label_studio import write_label_studio
from ovsr_gpu.export.labelme import write_labelme
from ovsr_gpu.export.panoptic import write_panoptic
from ovsr_gpu.export.voc_masks import write_voc
from ovsr_gpu.export.webdataset import write_webdataset
from ovsr_gpu.export.yolo import write_yolo
from ovsr_gpu.store.manifest import read_class_names
from ovsr_gpu.store.reader import ImageReader, Store
from ovsr_gpu.store.schema import Row

FormatWriter = Callable[[ImageReader, Sequence[str], Path], None]
"""Writes a format; called with the images of a run, the class names and the folder to write to."""

FORMATS: dict[str, FormatWriter] = {
    "coco": write_coco,
    "coco-panoptic": write_panoptic,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "webdataset": write_webdataset,
    "label-studio": write_label_studio,
}
"""Format name -> its writer."""


def export_run(
    run: Path,
    format: str,
    out: Path,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Write the results of a run in another format.

    Images are referred to by their paths, not copied.

    Args:
        run: The run's folder.
        format: A key of `FORMATS`.
        out: The folder to write to; new or empty.
        progress: Called with the number of images done and the total. Some formats read all images two or three times;
            the number then starts again at 1.

    Raises:
        ValueError: The format is unknown, `out` is not an empty folder, `run` is not the folder of a run, or the format
            cannot express the results.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"the output {str(out)!r} is not an empty folder; choose another one")
    class_names, store = read_class_names(run), Store(run)
    total = len(store.image_names()) - sum(1 for _ in store.failures())

    def images(columns: Sequence[str]) -> Iterator[list[Row]]:
        for done, regions in enumerate(store.images(columns), start=1):
            yield regions
            progress(done, total)

    FORMATS[format](images, class_names, out)
