"""What the command line shows: progress, summaries, tables."""

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

if TYPE_CHECKING:
    from ovsr_gpu.runs.run_stats import RunSummary

MAX_SHARES, MAX_MISSING = 20, 10


def console(stderr: bool = False) -> Console:
    """Standard output or error, for plain text of any length."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def progress_bar(screen: Console, total: int | None, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar, if there is a terminal to draw it on, and the function that moves it."""

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
    """Print what a labelling run into the folder `out` came to."""
    from ovsr_gpu.stages.text_embeddings import SOMETHING_ELSE  # brings torch along

    page = console()
    page.print(
        f"{summary.labelled} of {summary.labelled + summary.failed} images labelled, {summary.regions} regions, "
        f"{summary.images_per_second:.2f} images/s; results in {out}"
    )
    if summary.resumed:
        page.print(f"{summary.resumed} of them were done in earlier sessions")
    if summary.decoded_on_device:
        page.print(f"{summary.decoded_on_device} images were decoded on the GPU, the others by Pillow")
    slowest, *others = sorted(summary.time_fractions.items(), key=lambda row: -row[1])
    page.print(
        f"Bottleneck: {slowest[0]}, waited for during {slowest[1]:.0%} of the time ("
        + ", ".join(f"{what} {fraction:.0%}" for what, fraction in others)
        + ")"
    )
    if summary.failed:
        page.print(f"{summary.failed} failed, all listed in {out / 'errors.jsonl'}:")
        for failure in summary.failures:
            page.print(f"  {failure.reason}")
    shares = sorted(
        ((fraction, name) for name, fraction in summary.area_fractions.items() if fraction), key=lambda row: -row[0]
    )
    shown = [(name, f"{fraction:.1%}") for fraction, name in shares[:MAX_SHARES]]
    if left := shares[MAX_SHARES:]:
        shown.append((f"{len(left)} more", f"{sum(fraction for fraction, _ in left):.1%}"))
    if shown:
        print_section(page, "Fraction of area", shown)
        page.print(f"{summary.uncertainty:.0%} of the area is likely to be named wrongly, if the scores are right")
        if missing := summary.never_found:
            more = f" and {len(missing) - MAX_MISSING} more" if len(missing) > MAX_MISSING else ""
            page.print(f"Never found: {', '.join(missing[:MAX_MISSING])}{more}")
        other = summary.area_fractions[SOMETHING_ELSE]
        if other > 0.5 or summary.uncertainty > 0.5:
            found = f"is {SOMETHING_ELSE!r}" if other > 0.5 else "is likely to be named wrongly"
            page.print(
                f"More than half of the area {found}: either the images show other things than these classes, or "
                'this CLIP does not know their names; try other prompts, or --something-else "" for none'
            )


def print_section(page: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title and rows of a name and a value."""
    page.print(title)
    width = max(cell_len(name) for name, _ in rows)
    for name, value in rows:
        page.print(f"  {name}{' ' * (width - cell_len(name))}  {value}")
    page.print()


def print_table(page: Console, head: Sequence[str], *rows: Sequence[str]) -> None:
    """Print rows under the names of their columns, the first column to the left, all others to the right."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    shown.add_column(head[0], min_width=max(cell_len(line) for row in rows for line in row[0].splitlines()))
    for name in head[1:]:
        shown.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    page.print(shown, crop=False)
