from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovsr_gpu.export.atomic import replacing, write_json
from ovsr_gpu.export.record import LabelledPicture
from ovsr_gpu.export.results import Results
from ovsr_gpu.runs.store import Failure

Record = Callable[..., LabelledPicture]


class Recorder:
    """Notes what it is given, slowest for the first pictures, and fails at one of them."""

    def __init__(self, log: list[str], fail_at: str = "") -> None:
        self.log = log
        self.fail_at = fail_at

    def write(self, record: LabelledPicture) -> None:
        time.sleep(0.02 / (1 + int(record.picture.name)))
        self.note("file", record.picture.name)

    def note(self, what: str, name: str) -> None:
        if name == self.fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.log.append(f"{what} {name}")


class RecordingStore(Recorder):
    closed = 0

    def add(self, item: list[dict[str, Any]] | Failure) -> None:
        self.note(
            "failure" if isinstance(item, Failure) else "rows", getattr(item, "picture", "") or item[0]["picture"]
        )

    def end_batch(self) -> None:
        self.note("end of", "batch")

    def close(self) -> None:
        self.closed += 1


def in_store(log: list[str]) -> list[str]:
    return [entry for entry in log if not entry.startswith("file")]


def test_the_store_gets_the_pictures_in_order_after_their_files(record: Record) -> None:
    log: list[str] = []
    store = RecordingStore(log)
    with Results([Recorder(log), Recorder(log)], store) as results:
        for number in range(12):
            results.write(record(str(number), 3, 3, 2) if number != 5 else Failure("5", "5.png", "decode", "broken"))
        results.end_batch()
    expected = [f"{'failure' if number == 5 else 'rows'} {number}" for number in range(12)]
    assert in_store(log) == [*expected, "end of batch"]
    for number in {*range(12)} - {5}:
        files = [place for place, entry in enumerate(log) if entry == f"file {number}"]
        assert len(files) == 2 and max(files) < log.index(f"rows {number}")
    assert store.closed == 1
    assert not any(thread.name.startswith("ovsr-") for thread in threading.enumerate())


@pytest.mark.parametrize("at_store", [False, True])
def test_a_failed_write_is_raised_and_ends_the_store(record: Record, at_store: bool) -> None:
    log: list[str] = []
    store = RecordingStore(log, "3" if at_store else "")
    with pytest.raises(OSError, match="No space"), Results([Recorder(log, "" if at_store else "3")], store) as results:
        for number in range(8):
            results.write(record(str(number), 3, 3, 2))
        results.end_batch()
    assert in_store(log) == ["rows 0", "rows 1", "rows 2"]
    assert store.closed == 1


def test_an_interruption_lets_what_was_handed_over_finish(record: Record) -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt), Results([Recorder(log)], RecordingStore(log)) as results:
        for number in range(3):
            results.write(record(str(number), 3, 3, 2))
        raise KeyboardInterrupt
    assert in_store(log) == ["rows 0", "rows 1", "rows 2"]


def test_a_file_replaces_the_old_one_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"name": "犬 \udcff"})
    assert "犬 \\udcff" in path.read_text("utf-8")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert "犬" in path.read_text("utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
