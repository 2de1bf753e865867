"""Reports of an evaluation: summary rows for the console, and files in JSON, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from ovsr_gpu.datasets import Dataset
from ovsr_gpu.evaluation.image_scores import ImageScores
from ovsr_gpu.evaluation.protocols import describe_protocol
from ovsr_gpu.evaluation.runner import Evaluation
from ovsr_gpu.runtime.atomic import atomic_write, write_csv, write_json
from ovsr_gpu.segmenter import Segmenter

CONVENTIONS = (
    "Void pixels are not counted. Means over classes are over the classes with a target pixel. A pixel of a class that "
    "is predicted as 'something else' is a false negative of that class and a false positive of none. Hungarian, per "
    "image: the regions of an image are assigned one to one to its classes, with the maximum sum of IoU. Hungarian, "
    "dataset: the predicted classes are assigned once to the target classes. By segment: all pixels of a class in an "
    "image are one segment; segments match if IoU > 0.5."
)


def summary_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the names of the main scores and their values in percent, as text."""
    pixels, segments = evaluation.pixels, evaluation.segments
    rows: list[tuple[str, list[float | None]]] = [
        ("labelled mIoU", [pixels.miou]),
        ("labelled mIoU, mmsegmentation's definition", [pixels.mmsegmentation["mIoU"]]),
        ("pixel accuracy", [pixels.pixel_accuracy]),
        ("precision, recall, F1 by pixel (macro)", [pixels.macro_precision, pixels.mean_accuracy, pixels.macro_f1]),
        ("Hungarian mIoU, per image, mean over images", [evaluation.image_hungarian.image_miou]),
        ("Hungarian mIoU, per image, summed by class", [evaluation.image_hungarian.miou]),
        ("Hungarian mIoU, dataset", [evaluation.dataset_hungarian.miou]),
        (
            "precision, recall, F1 by segment (macro)",
            [segments.macro_precision, segments.macro_recall, segments.macro_f1],
        ),
        ("boundary F (macro)", [evaluation.boundaries.macro_f]),
        ("calibration error of regions", [evaluation.calibration.ece]),
    ]
    if evaluation.open_set is not None:
        rows.append(("AUROC of withheld classes", [evaluation.open_set.auroc]))
        rows.append(('F1 of "something else" on withheld classes', [evaluation.open_set.f1]))
    return [(name, ", ".join(map(percent, values))) for name, values in rows]


def write_report(
    evaluation: Evaluation,
    dataset: Dataset,
    segmenter: Segmenter,
    withheld: Sequence[str],
    out: Path,
    protocol: str | None = None,
) -> None:
    """Write `scores.json` (all scores, and all settings and versions), `scores.md` and `images.csv`.

    Args:
        evaluation: The scores.
        dataset: The dataset that was evaluated.
        segmenter: The method that was evaluated.
        withheld: Names of the classes that were removed from the vocabulary.
        out: Folder for the files.
        protocol: The protocol that `apply_protocol` applied, None for none.

    Raises:
        OSError: A file cannot be written.
    """
    protocol_description = None if protocol is None else describe_protocol(protocol, dataset)
    settings: dict[str, Any] = {
        "dataset": dataset.name,
        "images": evaluation.images,
        "expected_images": dataset.expected_size,
        "classes": dataset.vocabulary.names,
        "background_index": dataset.background_index,
        "withheld": list(withheld),
        "protocol": protocol_description,
        "conventions": CONVENTIONS,
        **segmenter.pipeline.describe(),
    }
    write_json(out / "scores.json", {"scores": evaluation.totals(), **settings})
    names = [name for name in dataset.vocabulary.names if name not in withheld]
    lines = [f"# {dataset.name}: {evaluation.images} images", "", "| score | % |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in summary_rows(evaluation)]
    lines += ["", "| class | IoU % | recall % | boundary F % |", "|---|---|---|---|"]
    columns = (evaluation.pixels.iou, evaluation.pixels.recall, evaluation.boundaries.f)
    lines += [
        f"| {name} | {' | '.join(percent(column[index]) for column in columns)} |" for index, name in enumerate(names)
    ]
    lines += ["", CONVENTIONS, ""]
    if protocol_description is not None:
        long_entries = ("class_synonyms", "differences")
        lines += ["| protocol | |", "|---|---|"]
        lines += [
            f"| {name} | {'-' if value is None else value} |"
            for name, value in protocol_description.items()
            if name not in long_entries
        ]
        lines += ["", protocol_description["differences"], ""]
    with atomic_write(out / "scores.md") as file:
        file.write("\n".join(lines).encode())
    image_columns = [field.name for field in fields(ImageScores)]
    write_csv(out / "images.csv", [image_columns, *map(astuple, evaluation.by_image)])


def percent(value: float | None) -> str:
    """Return a fraction in percent with one decimal, "-" for None."""
    return "-" if value is None else f"{100 * value:.1f}"
