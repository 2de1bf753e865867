"""Plot how the cost of the whole method grows, and print the tables, from a file of `bench_growth.py --results FILE`.

    python benchmarks/plot_pipeline.py benchmarks/results/growth_cpu.json

writes `growth_cpu.png` beside the file and prints Markdown. Requires matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter

from clustering.results import Results, Row, describe
from pipeline.cases import ENCODERS, MODELS, Case
from pipeline.results import AXES, base_of, networks_line, report, rows_along
from plot_clustering import main, set_style

MODEL_COLORS = dict(zip(MODELS, ("#0072b2", "#d55e00"), strict=True))  # two of the colors in plot_clustering.py
MARKERS = dict(zip(ENCODERS, "os", strict=True))
CALL = {"color": "#222222", "marker": "o"}
STREAM = {"color": "#009e73", "marker": "o"}
BOUND = {"color": "#888888", "ls": ":"}


class Line(NamedTuple):
    label: str
    rows: list[Row]
    quantity: Callable[[Row], float | None]
    style: dict[str, Any]


def draw(results: Results) -> Figure:
    """Draw the time per image along regions, size and classes, the throughput along the batch, and the peak memory."""
    base = base_of(results)
    along = {axis: rows_along(results, axis) for axis in AXES}
    figure = Figure(figsize=(16, 9.5), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    figure.suptitle(
        f"{describe(results.machine)}\n{networks_line(results.rows)}\n"
        f"Defaults: {base.model}, encoder {base.encoder}, {base.regions} regions per image, images of "
        f"{base.size}, {base.classes} classes, batch {base.batch}",
        fontsize=10,
    )
    ((regions, *times), (throughput, *memories)) = figure.subplots(2, 3)
    use_logarithms(regions)
    draw_panel(regions, "Models and encoders", "regions", "milliseconds per image, median", series(along["regions"]))
    for panel, axis, title in zip(times, ("size", "classes"), ("Image size", "Classes"), strict=True):
        lines = [
            Line("one call", along[axis], milliseconds, CALL),
            Line("both networks alone", along[axis], networks_milliseconds, BOUND),
        ]
        draw_panel(panel, title, axis, "milliseconds per image, median", lines)
    lines = [
        Line("stream of batches", along["batch"], lambda row: row["stream_images_per_second"], STREAM),
        Line("one call after another", along["batch"], lambda row: row["images_per_second"], CALL),
        Line("both networks alone", along["batch"], lambda row: 1e3 / networks_milliseconds(row), BOUND),
    ]
    draw_panel(throughput, "Throughput", "batch", "images per second", lines)
    for panel, axis in zip(memories, ("batch", "size"), strict=True):
        lines = [Line("one call", along[axis], megabytes, CALL)]
        draw_panel(panel, "Peak memory", axis, "MB per call, in addition to the memory before", lines)
    return figure


def series(rows: list[Row]) -> list[Line]:
    """Return a line for each model and encoder; the markers of "dense" are hollow."""
    return [
        Line(
            f"{model}, {encoder}",
            [row for row in rows if (row["model"], row["encoder"]) == (model, encoder)],
            milliseconds,
            {"color": color, "marker": MARKERS[encoder], "mfc": color if encoder == "crop" else "white"},
        )
        for model, color in MODEL_COLORS.items()
        for encoder in ENCODERS
    ]


def milliseconds(row: Row) -> float:
    return row["p50_ms"] / row["batch"]


def networks_milliseconds(row: Row) -> float:
    return row["networks_ms"] / row["batch"]


def megabytes(row: Row) -> float | None:
    return None if row["peak_bytes"] is None else row["peak_bytes"] / 1e6


def use_logarithms(panel: Axes) -> None:
    """Use a logarithmic scale for times; all other panels start at zero."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_formatter(NullFormatter())


def draw_panel(panel: Axes, title: str, axis: str, unit: str, lines: list[Line]) -> None:
    """Draw the lines that have values, with their labels; draw nothing if the axis has a single value."""
    tick_labels = {position(row, axis): str(row[axis]) for line in lines for row in line.rows}
    if len(tick_labels) < 2:
        panel.set_axis_off()
        return
    for label, rows, quantity, style in lines:
        points = [(position(row, axis), value) for row in rows if (value := quantity(row)) is not None]
        if points:
            panel.plot(*zip(*points, strict=True), ms=5, label=label, **style)
    panel.set_title(title, loc="left", fontweight="bold")
    panel.set_xscale("log")
    panel.set_xticks(list(tick_labels), list(tick_labels.values()))
    panel.set_xlabel(AXES[axis])
    panel.set_ylabel(unit)
    panel.margins(y=0.2)
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
    if len(lines) > 1:
        panel.legend(frameon=False)
    set_style(panel)


def position(row: Row, axis: str) -> float:
    """Return the position of a row along an axis; a size is placed by its number of pixels."""
    if axis != "size":
        return row[axis]
    height, width = Case(size=row["size"]).shape
    return height * width


if __name__ == "__main__":
    main(__doc__, draw, report)
