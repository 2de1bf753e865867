"""The scores of an evaluation as a table, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from ovsr_gpu.datasets import Dataset
from ovsr_gpu.evaluation.image_scores import ImageScores
from ovsr_gpu.evaluation.protocols import describe_protocol
from ovsr_gpu.evaluation.runner import Evaluation
from ovsr_gpu.runtime.atomic import replacing, write_csv, write_json
from ovsr_gpu.segmenter import Segmenter

CONVENTIONS = (
    "Void pixels count nowhere. Means over classes are over those with a true pixel. 'Something else' on a pixel of a "
    "class is a miss of that class and a false alarm of none. Per image: the regions of an image are assigned one to "
    "one to the classes in it, the sum of IoU the largest. Dataset: the predicted classes are assigned once to the "
    "true ones. By segment: all pixels of a class in an image are one, matched where IoU > 0.5."
)


def headline(found: Evaluation) -> list[tuple[str, str]]:
    """The main figures, in percent, with their names."""
    pixels, segments = found.pixels, found.segments
    rows: list[tuple[str, list[float | None]]] = [
        ("labelled mIoU", [pixels.miou]),
        ("labelled mIoU, as mmsegmentation counts", [pixels.mmsegmentation["mIoU"]]),
        ("pixel accuracy", [pixels.pixel_accuracy]),
        ("precision, recall, F1 by pixel (macro)", [pixels.macro_precision, pixels.mean_accuracy, pixels.macro_f1]),
        ("Hungarian mIoU, per image, mean over images", [found.image_hungarian.image_miou]),
        ("Hungarian mIoU, per image, summed by class", [found.image_hungarian.miou]),
        ("Hungarian mIoU, dataset", [found.dataset_hungarian.miou]),
        (
            "precision, recall, F1 by segment (macro)",
            [segments.macro_precision, segments.macro_recall, segments.macro_f1],
        ),
        ("boundary F (macro)", [found.boundaries.macro_f]),
        ("calibration error of regions", [found.calibration.ece]),
    ]
    if found.open_set is not None:
        rows.append(("AUROC of withheld classes", [found.open_set.auroc]))
        rows.append(('F1 of "something else" on withheld classes', [found.open_set.f1]))
    return [(name, ", ".join(map(percent, values))) for name, values in rows]


def write_report(
    found: Evaluation,
    dataset: Dataset,
    segmenter: Segmenter,
    withheld: Sequence[str],
    out: Path,
    protocol: str | None = None,
) -> None:
    """Write `scores.json`, with all scores and all that they depend on, `scores.md` and `images.csv`.

    protocol: under which `under_protocol` made the settings and the dataset, None for none.
    """
    published = None if protocol is None else describe_protocol(protocol, dataset)
    settings: dict[str, Any] = {
        "dataset": dataset.name,
        "images": found.images,
        "images_when_complete": dataset.full_size,
        "classes": dataset.vocabulary.names,
        "background": dataset.background,
        "withheld": list(withheld),
        "protocol": published,
        "conventions": CONVENTIONS,
        **segmenter.pipeline.describe(),
    }
    write_json(out / "scores.json", {"scores": found.totals(), **settings})
    names = [name for name in dataset.vocabulary.names if name not in withheld]
    lines = [f"# {dataset.name}: {found.images} images", "", "| score | % |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in headline(found)]
    lines += ["", "| class | IoU % | recall % | boundary F % |", "|---|---|---|---|"]
    columns = (found.pixels.iou, found.pixels.recall, found.boundaries.f)
    lines += [
        f"| {name} | {' | '.join(percent(column[index]) for column in columns)} |" for index, name in enumerate(names)
    ]
    lines += ["", CONVENTIONS, ""]
    if published is not None:
        shown = {name: value for name, value in published.items() if name not in ("words", "differences")}
        lines += ["| protocol | |", "|---|---|"]
        lines += [f"| {name} | {'-' if value is None else value} |" for name, value in shown.items()]
        lines += ["", published["differences"], ""]
    with replacing(out / "scores.md") as file:
        file.write("\n".join(lines).encode())
    columns_of_images = [field.name for field in fields(ImageScores)]
    write_csv(out / "images.csv", [columns_of_images, *map(astuple, found.by_image)])


def percent(value: float | None) -> str:
    """A fraction in percent, "-" for none."""
    return "-" if value is None else f"{100 * value:.1f}"
