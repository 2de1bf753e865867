"""The statistics of a run, and the summary printed from them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ovsr_gpu.commands.console import print_summary
from ovsr_gpu.runs.run_stats import RunStats, RunSummary
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.schema import LabelledBatch
from ovsr_gpu.vocabulary import Vocabulary


def summary_of(areas: dict[str, int], score: float) -> RunSummary:
    """Of a run in which each of these classes has one region of so many pixels."""
    table = pa.table({"class_index": range(len(areas)), "score": [score] * len(areas), "area": list(areas.values())})
    stats = RunStats(Store(Path("none")), Vocabulary.parse(list(areas)[:-1]))
    stats.add(LabelledBatch(table.filter(pa.array([area > 0 for area in areas.values()])), [], 1, {}, 0))
    return stats.summary(1, interrupted=False)


def test_a_class_with_a_single_pixel_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of({"dog": 10**9, "cat": 1, "sky": 0, "something else": 0}, 0.9)
    assert summary.never_found == ("sky",) and summary.area_fractions["cat"] == 0
    print_summary(summary, Path("out"))
    said = capsys.readouterr().out
    assert "Never found: sky\n" in said and "10% of the area is expected to be labelled wrongly" in said
    assert "More than half" not in said


@pytest.mark.parametrize(
    ("areas", "score", "found"),
    [
        ({"dog": 4, "something else": 6}, 0.9, "is 'something else': either"),
        ({"dog": 6, "something else": 4}, 0.3, "is expected to be labelled wrongly: either"),
    ],
)
def test_a_vocabulary_that_fits_badly_is_reported(
    capsys: pytest.CaptureFixture[str], areas: dict[str, int], score: float, found: str
) -> None:
    print_summary(summary_of(areas, score), Path("out"))
    assert f"More than half of the area {found}" in capsys.readouterr().out


def test_a_run_of_nothing_misses_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary_of({"dog": 0, "something else": 0}, 1), Path("out"))
    assert "Never found" not in capsys.readouterr().out
