"""Output of the command line: progress bars, summaries, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import progress
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovsr_gpu.vocabulary import SOMETHING_ELSE

if TYPE_CHECKING:
    from ovsr_gpu.runs.run_stats import RunSummary

MAX_CLASSES_SHOWN, MAX_MISSING_SHOWN = 20, 10


def console(stderr: bool = False) -> Console:
    """Return a console for plain text, without markup, highlighting or line breaks.

    Args:
        stderr: Write to standard error instead of standard output.

    Returns:
        The console.
    """
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def progress_bar(screen: Console, total: int | None, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar if the output is a terminal.

    Args:
        screen: Where to draw it.
        total: Number of items, None if unknown.
        unit: What the items are, in the plural.

    Yields:
        A function to call with the number of items done and the total.
    """

    class Speed(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {unit}/s")

    columns = (progress.BarColumn(), progress.MofNCompleteColumn(), Speed(), progress.TimeRemainingColumn())
    with progress.Progress(
        *columns, console=screen, disable=not screen.is_terminal, speed_estimate_period=120
    ) as display:
        task = display.add_task("", total=total)
        yield lambda done, total: display.update(task, completed=done, total=total)


def print_summary(summary: RunSummary, out: Path) -> None:
    """Print the summary of a labelling run.

    Args:
        summary: The summary.
        out: The folder with the results.
    """
    page = console()
    page.print(
        f"{summary.labelled} of {summary.labelled + summary.failed} images labelled, {summary.regions} regions, "
        f"{summary.images_per_second:.2f} images/s; results in {out}"
    )
    if summary.resumed:
        page.print(f"{summary.resumed} of them were finished in earlier sessions")
    if summary.decoded_on_device:
        page.print(f"{summary.decoded_on_device} images were decoded on the GPU, the others by Pillow")
    by_time = sorted(summary.time_fractions.items(), key=lambda row: -row[1])
    times = ", ".join(f"{cause} {fraction:.0%}" for cause, fraction in by_time)
    page.print(f"Bottleneck: {by_time[0][0]}; time spent waiting: {times}")
    if summary.failed:
        page.print(f"{summary.failed} failed; all are listed in {out / 'errors.jsonl'}:")
        for failure in summary.failures:
            page.print(f"  {failure.reason}")
    fractions = sorted(
        ((fraction, name) for name, fraction in summary.area_fractions.items() if fraction), key=lambda row: -row[0]
    )
    shown = [(name, f"{fraction:.1%}") for fraction, name in fractions[:MAX_CLASSES_SHOWN]]
    if rest := fractions[MAX_CLASSES_SHOWN:]:
        shown.append((f"{len(rest)} more", f"{sum(fraction for fraction, _ in rest):.1%}"))
    if shown:
        print_section(page, "Fraction of area", shown)
        page.print(
            f"{summary.uncertainty:.0%} of the area is expected to be labelled wrongly, if the scores are calibrated"
        )
        if missing := summary.never_found:
            more = f" and {len(missing) - MAX_MISSING_SHOWN} more" if len(missing) > MAX_MISSING_SHOWN else ""
            page.print(f"Never found: {', '.join(missing[:MAX_MISSING_SHOWN])}{more}")
        something_else = summary.area_fractions[SOMETHING_ELSE]
        if something_else > 0.5 or summary.uncertainty > 0.5:
            problem = f"is {SOMETHING_ELSE!r}" if something_else > 0.5 else "is expected to be labelled wrongly"
            page.print(
                f"More than half of the area {problem}: either the images show other things than these classes, or "
                "this CLIP does not know their names. Try other class names or prompts, or turn "
                f'{SOMETHING_ELSE!r} off with --something-else ""'
            )


def print_section(page: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title, and one line per (name, value) pair below it.

    Args:
        page: Where to print.
        title: The title.
        rows: Pairs of name and value, at least one.
    """
    page.print(title)
    width = max(cell_len(name) for name, _ in rows)
    for name, value in rows:
        page.print(f"  {name}{' ' * (width - cell_len(name))}  {value}")
    page.print()


def print_table(page: Console, head: Sequence[str], *rows: Sequence[str]) -> None:
    """Print a table: the first column aligned to the left, the others to the right.

    Args:
        page: Where to print it.
        head: Names of the columns.
        *rows: One string per column each.
    """
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    shown.add_column(head[0], min_width=max(cell_len(line) for row in rows for line in row[0].splitlines()))
    for name in head[1:]:
        shown.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    page.print(shown, crop=False)
