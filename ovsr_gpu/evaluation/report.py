"""The scores of an evaluation as a table, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from ovsr_gpu.datasets import DataSet
from ovsr_gpu.evaluation.image_scores import PictureScores
from ovsr_gpu.evaluation.protocols import describe_protocol
from ovsr_gpu.evaluation.runner import Evaluation
from ovsr_gpu.pipeline import Segmenter
from ovsr_gpu.runtime.atomic import replacing, write_csv, write_json
from ovsr_gpu.store.manifest import describe_segmenter

CONVENTIONS = (
    "Void pixels count nowhere. Means over classes are over those with a true pixel. 'Something else' on a pixel of a "
    "class is a miss of that class and a false alarm of none. Per image: the regions of a picture are assigned one to "
    "one to the classes in it, the sum of IoU the largest. Data set: the predicted classes are assigned once to the "
    "true ones. By segment: all pixels of a class in a picture are one, matched where IoU > 0.5."
)


def headline(found: Evaluation) -> list[tuple[str, str]]:
    """The main figures, in percent, with their names."""
    pixels, segments = found.pixels, found.segments
    rows: list[tuple[str, list[float | None]]] = [
        ("labelled mIoU", [pixels.miou]),
        ("labelled mIoU, as mmsegmentation counts", [pixels.mmsegmentation["mIoU"]]),
        ("pixel accuracy", [pixels.pixel_accuracy]),
        ("precision, recall, F1 by pixel (macro)", [pixels.macro_precision, pixels.mean_accuracy, pixels.macro_f1]),
        ("Hungarian mIoU, per image, mean over pictures", [found.image_hungarian.picture_miou]),
        ("Hungarian mIoU, per image, summed by class", [found.image_hungarian.miou]),
        ("Hungarian mIoU, data set", [found.dataset_hungarian.miou]),
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
    data_set: DataSet,
    segmenter: Segmenter,
    withheld: Sequence[str],
    out: Path,
    protocol: str | None = None,
) -> None:
    """Write `scores.json`, with all scores and all that they depend on, `scores.md` and `pictures.csv`.

    protocol: under which `under_protocol` made the settings and the data set, None for none.
    """
    published = None if protocol is None else describe_protocol(protocol, data_set)
    settings: dict[str, Any] = {
        "data_set": data_set.name,
        "pictures": found.pictures,
        "pictures_when_complete": data_set.full_size,
        "classes": data_set.vocabulary.names,
        "background": data_set.background,
        "withheld": list(withheld),
        "protocol": published,
        "conventions": CONVENTIONS,
        **describe_segmenter(segmenter),
    }
    write_json(out / "scores.json", {"scores": found.totals(), **settings})
    names = [name for name in data_set.vocabulary.names if name not in withheld]
    lines = [f"# {data_set.name}: {found.pictures} pictures", "", "| score | % |", "|---|---|"]
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
    columns_of_pictures = [field.name for field in fields(PictureScores)]
    write_csv(out / "pictures.csv", [columns_of_pictures, *map(astuple, found.by_picture)])


def percent(value: float | None) -> str:
    """A share in percent, "-" for none."""
    return "-" if value is None else f"{100 * value:.1f}"
