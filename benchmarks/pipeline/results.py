"""The figures of the growth benchmark: rows and tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustering.results import Results, Row, markdown_table
from pipeline.cases import ENCODERS, LARGE_MODEL, MODELS, SWEEPS, Case, base_case

PACKAGES = ("torch", "torchvision", "open_clip_torch", "triton", "numpy", "scipy", "scikit-learn", "pillow")
DESCRIPTION = "calls of a Segmenter from decoded images on the host to class maps there; CLIP with random weights"
AXES = {
    "regions": "regions an image",
    "size": "image size",
    "classes": "classes",
    "batch": "images a batch",
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
    """A case and what was measured of it.

    seconds: of calls. networks_seconds: of both networks alone. regions: found in the whole batch. backbone: its
    weights. precision: of CLIP's image tower.
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
        "images_per_second": four_digits(case.batch / median),
        "stream_images_per_second": stream_images_per_second and four_digits(stream_images_per_second),
        "regions_per_image": regions / case.batch,
        "peak_bytes": peak_bytes,
        "networks_ms": round(1e3 * networks, 3),
        "networks_fraction": round(networks / median, 4),
    }


def stage_row(stage: str, provider: str, description: dict[str, Any], seconds: list[float]) -> Row:
    """A stage, who ran it, on what, and the quantiles of its calls. seconds: of each call, on a whole batch."""
    median, ninety_fifth = np.quantile(seconds, [0.5, 0.95])
    return {
        "stage": stage,
        "provider": provider,
        **description,
        "rounds": len(seconds),
        "p50_ms": round(1e3 * median, 4),
        "p95_ms": round(1e3 * ninety_fifth, 4),
        "images_per_second": four_digits(description["batch"] / median),
    }


def four_digits(number: float) -> float:
    return float(f"{number:.4g}")


def report(results: Results) -> str:
    """Markdown: what the networks are, the models at a glance, then how the cost grows along each axis."""
    base = base_of(results)
    glance = f"**At a glance**, images of {base.size}, {base.classes} classes\n\n{glance_table(results)}"
    parts = [networks_line(results.rows), glance]
    for axis, title in AXES.items():
        if rows := rows_along(results, axis):
            parts.append(f"**Growth with {title}**, {constants(base, axis)}\n\n{growth_table(rows, axis)}")
    return "\n\n".join(parts)


def base_of(results: Results) -> Case:
    return base_case(results.machine["device"])


def networks_line(rows: list[Row]) -> str:
    return (
        f"CLIP has random weights, on which speed does not depend, and an image tower in {rows[0]['precision']}. "
        f"EfficientNet-B0 is in float32; its weights: {rows[0]['backbone']}."
    )


def constants(base: Case, varied: str) -> str:
    """What all cases share that differ along an axis; along "regions" they differ in model and encoder too."""
    texts = {
        "size": f"images of {base.size}",
        "classes": f"{base.classes} classes",
        "batch": f"batch {base.batch}",
        "regions": f"{base.regions} regions an image",
    }
    own_model = [] if varied == "regions" else [f"{base.model}, encoder {base.encoder}"]
    return ", ".join([*own_model, *(text for axis, text in texts.items() if axis != varied)])


def rows_along(results: Results, axis: str) -> list[Row]:
    """The rows that differ along this axis only, in its order; along "regions" in model and encoder too."""
    free = {"model", "encoder", "regions"} if axis == "regions" else {axis}
    fixed = {field: value for field, value in base_of(results)._asdict().items() if field not in free}
    rows = [row for row in results.rows if all(row[field] == value for field, value in fixed.items())]
    return sorted(rows, key=place)


def place(row: Row) -> tuple:
    """By which rows are sorted."""
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


def glance_table(results: Results) -> str:
    """A line for each model, encoder and number of regions; the latency is that of one image, where it was measured.

    The other columns are of the base batch, or of one image where there is no other.
    """
    base = base_of(results)
    lines: dict[tuple, dict[int, Row]] = {}
    for row in sorted(results.rows, key=place):
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
    columns = ["model", "encoder", axis] if axis == "regions" else [axis]
    heads = ["p50 ms", "p95 ms", "rounds", "images/s", "streamed", "regions found", "networks ms", "share", "peak MB"]
    return markdown_table(
        [*columns, *heads],
        [
            [
                *(row[column] for column in columns),
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
