from __future__ import annotations

from pathlib import Path

import pytest

from ovsr_gpu.runtime.atomic import atomic_write, write_json


def test_a_file_replaces_the_old_one_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"name": "犬 \udcff"})
    assert "犬 \\udcff" in path.read_text("utf-8")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert "犬" in path.read_text("utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
