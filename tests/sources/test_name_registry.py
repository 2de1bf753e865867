from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from ovsr_gpu.sources.name_registry import MAX_NAME_BYTES, MAX_PATH_BYTES, NameRegistry


@pytest.fixture
def registry():
    with closing(NameRegistry()) as registry:
        yield registry


@pytest.mark.parametrize(
    ("relative", "name"),
    [
        ("a/b.c.jpg", "a/b.c"),
        ("a/.jpg", "a/.jpg"),
        ("/a/b.jpg", "a/b"),
        ("./a//../../b.jpg", "a/b"),
        ("..", "_"),
        ("", "_"),
        ("x.PNG/x.png", "x.PNG_/x"),
        ("nul\0/nul\0.jpg", "nul_/nul_"),
    ],
)
def test_a_name_stays_inside_the_output_folder(registry: NameRegistry, relative: str, name: str) -> None:
    assert registry.unique_name(relative) == name


def test_long_paths_are_truncated(registry: NameRegistry) -> None:
    long = registry.unique_name("/".join(["é" * 200] * 100) + "/" + "x" * 100_000 + ".jpg")
    assert len(os.fsencode(long)) <= MAX_PATH_BYTES
    assert max(len(os.fsencode(part)) for part in long.split("/")) == MAX_NAME_BYTES
    assert long.endswith("/" + "x" * MAX_NAME_BYTES)


def test_many_equal_names_and_those_that_look_numbered(registry: NameRegistry) -> None:
    names = [registry.unique_name(name) for name in ["a", "A~3"] + ["a.jpg"] * 2000 + ["a~2.jpg"]]
    assert names[:6] == ["a", "A~3", "a~2", "a~4", "a~5", "a~6"] and names[-1] == "a~2~2"
    assert len({name.casefold() for name in names}) == len(names) == 2003


def test_images_are_new_once(registry: NameRegistry) -> None:
    odd = "not\udcff Unicode"
    assert [registry.is_new(identity) for identity in ("a", "b", "a", "A", odd, odd)] == [
        *(True, True, False, True, True, False)
    ]
    assert registry.unique_name("a") == "a"  # names and images are separate
    assert registry.unique_name(odd) == odd


def test_the_database_is_deleted_on_close() -> None:
    registry = NameRegistry()
    registry.close()
    with pytest.raises(sqlite3.ProgrammingError):
        registry.is_new("a")
