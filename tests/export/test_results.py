from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ovsr_gpu.export.atomic import replacing, write_json
from ovsr_gpu.export.record import LabelledPicture, Writer
from ovsr_gpu.export.results import Results

Record = Callable[..., LabelledPicture]


class Recorder:
    """Notes what it is given, slowest for the first pictures, and fails at one of them."""

    def __init__(self, log: list[str], *, ordered: bool, fail_at: str = "") -> None:
        self.ordered = ordered
        self.log = log
        self.fail_at = fail_at
        self.closed = 0

    def write(self, record: LabelledPicture) -> None:
        name = record.picture.name
        time.sleep(0 if self.ordered else 0.02 / (1 + int(name)))
        if name == self.fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.log.append(f"{'line' if self.ordered else 'file'} {name}")

    def close(self) -> None:
        self.closed += 1
        self.log.append("close")


def test_ordered_writers_get_the_pictures_in_order_after_their_files(record: Record) -> None:
    log: list[str] = []
    writers: list[Writer] = [Recorder(log, ordered=False), Recorder(log, ordered=True)]
    with Results(writers) as results:
        for number in range(12):
            results.write(record(str(number), 3, 3, 2))
    assert [entry for entry in log if entry.startswith("line")] == [f"line {number}" for number in range(12)]
    assert all(log.index(f"file {number}") < log.index(f"line {number}") for number in range(12))
    assert log[-2:] == ["close", "close"]
    assert not any(thread.name.startswith("ovsr-") for thread in threading.enumerate())


@pytest.mark.parametrize("ordered", [False, True])
def test_a_failed_write_is_raised_and_ends_the_lines(record: Record, ordered: bool) -> None:
    log: list[str] = []
    writers = [
        Recorder(log, ordered=False, fail_at="" if ordered else "3"),
        Recorder(log, ordered=True, fail_at="3" if ordered else ""),
    ]
    with pytest.raises(OSError, match="No space"), Results(list(writers)) as results:
        for number in range(8):
            results.write(record(str(number), 3, 3, 2))
    assert [entry for entry in log if entry.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert [writer.closed for writer in writers] == [1, 1]


def test_an_interruption_lets_what_was_handed_over_finish(record: Record) -> None:
    log: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        Results([Recorder(log, ordered=False), Recorder(log, ordered=True)]) as results,
    ):
        for number in range(3):
            results.write(record(str(number), 3, 3, 2))
        raise KeyboardInterrupt
    assert [entry for entry in log if entry.startswith("line")] == ["line 0", "line 1", "line 2"]


def test_a_file_replaces_the_old_one_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"name": "犬 \udcff"})
    assert "犬 \\udcff" in path.read_text("utf-8")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert "犬" in path.read_text("utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
