"""Rows and tables of the growth benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustering.results import Results, Row, markdown_table
from pipeline.cases import ENCODERS, LARGE_MODEL, MODELS, SWEEPS, Case, base_case

PACKAGES = ("torch", "torchvision", "open_clip_torch", "triton", "numpy", "scipy", "scikit-learn", "pillow")
DESCRIPTION = "calls of a Segmenter from decoded images on the host to class maps there; CLIP with random weights"
AXES = {
    "regions": "regions per image",
    "size": "image size",
    "classes": "classes",
    "batch": "images per batch",
}


def growth_row(
    case: Case,
    seconds: list[float],
    networks_seconds: list[float],
    *,
    regions: int,
    stream_images_per_second: float | None,
    peak_bytes: int | None,
    backbone: str,
    precision: str,
) -> Row:
    """Make the row of a case.

    Args:
        case: The case.
        seconds: Duration of each call.
        networks_seconds: Durations of both networks alone.
        regions: Number of regions found in the whole batch.
        stream_images_per_second: Throughput of a stream; None where it is not measured.
        peak_bytes: Peak memory of a call; None where it is not measured.
        backbone: Description of the backbone's weights.
        precision: Precision of CLIP's image tower.
    """
    median, ninety_fifth = np.quantile(seconds, [0.5, 0.95])
    networks = np.median(networks_seconds)
    return {
        **case._asdict(),
        "backbone": backbone,
        "precision": precision,
        "rounds": len(seconds),
        "p50_ms": round(1e3 * median, 3),
        "p95_ms": round(1e3 * ninety_fifth, 3),
        "images_per_second": round_to_4_digits(case.batch / median),
        "stream_images_per_second": stream_images_per_second and round_to_4_digits(stream_images_per_second),
        "regions_per_image": regions / case.batch,
        "peak_bytes": peak_bytes,
        "networks_ms": round(1e3 * networks, 3),
        "networks_fraction": round(networks / median, 4),
    }


def stage_row(stage: str, provider: str, description: dict[str, Any], seconds: list[float]) -> Row:
    """Make the row of a stage.

    Args:
        stage: Name of the stage.
        provider: Implementation that ran it.
        description: Fields of the workload.
        seconds: Duration of each call on the whole batch.
    """
    median, ninety_fifth = np.quantile(seconds, [0.5, 0.95])
    return {
        "stage": stage,
        "provider": provider,
        **description,
        "rounds": len(seconds),
        "p50_ms": round(1e3 * median, 4),
        "p95_ms": round(1e3 * ninety_fifth, 4),
        "images_per_second": round_to_4_digits(description["batch"] / median),
    }


def round_to_4_digits(number: float) -> float:
    return float(f"{number:.4g}")


def report(results: Results) -> str:
    """Return Markdown: the networks, an overview of the models, and the growth of the cost along each axis."""
    base = base_of(results)
    overview = f"**Overview**, images of {base.size}, {base.classes} classes\n\n{overview_table(results)}"
    parts = [networks_line(results.rows), overview]
    for axis, title in AXES.items():
        if rows := rows_along(results, axis):
            parts.append(f"**Growth with {title}**, {constants(base, axis)}\n\n{growth_table(rows, axis)}")
    return "\n\n".join(parts)


def base_of(results: Results) -> Case:
    return base_case(results.machine["device"])


def networks_line(rows: list[Row]) -> str:
    return (
        f"CLIP has random weights, which do not affect the speed; its image tower is in {rows[0]['precision']}. "
        f"EfficientNet-B0 is in float32; its weights are: {rows[0]['backbone']}."
    )


def constants(base: Case, varied: str) -> str:
    """Return what all cases along an axis have in common; along "regions", the model and the encoder vary too."""
    texts = {
        "size": f"images of {base.size}",
        "classes": f"{base.classes} classes",
        "batch": f"batch {base.batch}",
        "regions": f"{base.regions} regions per image",
    }
    model = [] if varied == "regions" else [f"{base.model}, encoder {base.encoder}"]
    return ", ".join([*model, *(text for axis, text in texts.items() if axis != varied)])


def rows_along(results: Results, axis: str) -> list[Row]:
    """Return the rows that vary along this axis only, sorted; along "regions", the model and the encoder vary too."""
    free = {"model", "encoder", "regions"} if axis == "regions" else {axis}
    fixed = {field: value for field, value in base_of(results)._asdict().items() if field not in free}
    rows = [row for row in results.rows if all(row[field] == value for field, value in fixed.items())]
    return sorted(rows, key=sort_key)


def sort_key(row: Row) -> tuple:
    """Return the sort key of a row."""
    models = (*MODELS, LARGE_MODEL)
    sizes = SWEEPS["size"]
    return (
        models.index(row["model"]),
        ENCODERS.index(row["encoder"]),
        row["regions"],
        sizes.index(row["size"]),
        row["classes"],
        row["batch"],
    )


def overview_table(results: Results) -> str:
    """Return a table with a row per model, encoder and number of regions.

    The latency is that of one image, where it was measured. The other columns are for the base batch, or for one image
    where the base batch was not measured.
    """
    base = base_of(results)
    lines: dict[tuple, dict[int, Row]] = {}
    for row in sorted(results.rows, key=sort_key):
        if (row["size"], row["classes"]) == (base.size, base.classes) and row["batch"] in (1, base.batch):
            lines.setdefault((row["model"], row["encoder"], row["regions"]), {})[row["batch"]] = row
    return markdown_table(
        ["CLIP", "encoder", "regions", "batch", "images/s", "fraction of the networks", "p50 ms of one image"],
        [
            [
                *line,
                row["batch"],
                f"{row['images_per_second']:.3g}",
                f"{row['networks_fraction']:.0%}",
                f"{by_batch[1]['p50_ms']:.4g}" if 1 in by_batch else "",
            ]
            for line, by_batch in lines.items()
            for row in [by_batch[max(by_batch)]]
        ],
    )


def growth_table(rows: list[Row], axis: str) -> str:
    keys = ["model", "encoder", axis] if axis == "regions" else [axis]
    columns = [
        "p50 ms",
        "p95 ms",
        "rounds",
        "images/s",
        "streamed",
        "regions found",
        "networks ms",
        "fraction",
        "peak MB",
    ]
    return markdown_table(
        [*keys, *columns],
        [
            [
                *(row[key] for key in keys),
                f"{row['p50_ms']:.1f}",
                f"{row['p95_ms']:.1f}",
                row["rounds"],
                f"{row['images_per_second']:.3g}",
                "" if row["stream_images_per_second"] is None else f"{row['stream_images_per_second']:.3g}",
                f"{row['regions_per_image']:.3g}",
                f"{row['networks_ms']:.1f}",
                f"{row['networks_fraction']:.0%}",
                "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
            ]
            for row in rows
        ],
    )
