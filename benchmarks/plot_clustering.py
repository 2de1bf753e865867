"""Plot how the cost of clustering grows, and print the tables, from a file of `bench_clustering.py --results FILE`.

    python benchmarks/plot_clustering.py benchmarks/results/clustering_cpu.json

writes `clustering_cpu.png` beside the file and prints Markdown. Requires matplotlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from clustering.cases import LARGE_BATCH, SWEEPS, Case
from clustering.results import TITLES, Results, Row, describe, read_results, report, series_label

BASE = Case(operation="", provider="", dtype="")._asdict()
AXES = {"side": "points P", "rank": "channels R", "batch": "images per batch B", "data": "data"}
STYLES = {  # colors that are distinguishable with color blindness (Okabe and Ito, 2008, "Color universal design")
    "Triton float32": ("#d55e00", "-"),
    "Triton float64": ("#d55e00", ":"),
    "heap float32": ("#e69f00", "-"),
    "heap float64": ("#e69f00", ":"),
    "torch": ("#0072b2", "-"),
    "torch float32": ("#0072b2", "-"),
    "torch float64": ("#0072b2", ":"),
    "SciPy, one thread": ("#222222", "-"),
    "SciPy, all cores": ("#222222", "--"),
    "fastcluster, one thread": ("#009e73", "-"),
    "fastcluster, all cores": ("#009e73", "--"),
    "scikit-learn, one thread": ("#cc79a7", "-"),
    "scikit-learn, all cores": ("#cc79a7", "--"),
}


def main(description: str, draw: Callable[[Results], Figure], report: Callable[[Results], str]) -> None:
    """Read the files named on the command line, write a plot beside each and print its tables."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files")
    for path in parser.parse_args().results:
        results = read_results(path)
        draw(results).savefig(path.with_suffix(".png"), dpi=100)
        print(f"{describe(results.machine)}\n\n{report(results)}\n")


def draw(results: Results) -> Figure:
    """Draw a row of panels per operation: its cost along each axis, with the other axes at the defaults of `Case`."""
    rows_of = {operation: [row for row in results.rows if row["operation"] == operation] for operation in TITLES}
    rows_of = {operation: rows for operation, rows in rows_of.items() if rows}
    figure = Figure(figsize=(16, 1 + 3.4 * len(rows_of)), layout="constrained")
    figure.suptitle(
        f"{describe(results.machine)}\nDefaults: {BASE['side']}x{BASE['side']} points, R = {BASE['rank']}, "
        f"B = {BASE['batch']}, {BASE['data']} data",
        fontsize=10,
    )
    panels = figure.subplots(len(rows_of), len(AXES), sharey="row", squeeze=False)
    for line, (operation, rows) in zip(panels, rows_of.items(), strict=True):
        line[0].set_title(TITLES[operation], loc="left", fontweight="bold")
        line[0].set_ylabel("milliseconds per image, median")
        for panel, axis in zip(line, AXES, strict=True):
            draw_panel(panel, axis, rows)
        handles, labels = line[0].get_legend_handles_labels()
        line[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure


def draw_panel(panel: Axes, axis: str, rows: list[Row]) -> None:
    """Draw the rows that vary along this axis only, a line per series; draw nothing if they have a single value."""
    rows = [row for row in rows if all(row[other] == BASE[other] for other in AXES if other != axis)]
    values = [value for value in (*SWEEPS[axis], LARGE_BATCH) if any(row[axis] == value for row in rows)]
    if len(values) < 2:
        panel.set_axis_off()
        return
    is_categorical = axis == "data"
    positions = (
        list(range(len(values))) if is_categorical else [value**2 if axis == "side" else value for value in values]
    )
    for label in dict.fromkeys(map(series_label, rows)):
        cost = {row[axis]: row["p50_ms"] / row["batch"] for row in rows if series_label(row) == label}
        color, line = STYLES[label]
        face = color if line == "-" else "white"
        x = [position for position, value in zip(positions, values, strict=True) if value in cost]
        y = [cost[value] for value in values if value in cost]
        panel.plot(x, y, "o", ls="" if is_categorical else line, color=color, mfc=face, ms=4, label=label)
    panel.set_xscale("linear" if is_categorical else "log")
    panel.set_yscale("log")
    panel.set_xticks(
        positions, list(map(str, values if is_categorical else positions)), rotation=60 if axis == "side" else 0
    )
    panel.set_xlabel(AXES[axis])
    panel.margins(x=0.15 if is_categorical else 0.05)
    set_style(panel)


def set_style(panel: Axes) -> None:
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.grid(color="#e6e6e6")
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(__doc__, draw, lambda results: report(results.rows))
