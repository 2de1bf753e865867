from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from ovsr_gpu.sources.name_registry import LONGEST_NAME, LONGEST_PATH, NameRegistry


@pytest.fixture
def register():
    with closing(NameRegistry()) as register:
        yield register


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
def test_a_name_leads_nowhere_else(register: NameRegistry, relative: str, name: str) -> None:
    assert register.unique_name(relative) == name


def test_long_paths_are_cut(register: NameRegistry) -> None:
    long = register.unique_name("/".join(["é" * 200] * 100) + "/" + "x" * 100_000 + ".jpg")
    assert len(os.fsencode(long)) <= LONGEST_PATH
    assert max(len(os.fsencode(part)) for part in long.split("/")) == LONGEST_NAME
    assert long.endswith("/" + "x" * LONGEST_NAME)


def test_many_equal_names_and_those_that_look_numbered(register: NameRegistry) -> None:
    names = [register.unique_name(name) for name in ["a", "A~3"] + ["a.jpg"] * 2000 + ["a~2.jpg"]]
    assert names[:6] == ["a", "A~3", "a~2", "a~4", "a~5", "a~6"] and names[-1] == "a~2~2"
    assert len({name.casefold() for name in names}) == len(names) == 2003


def test_images_are_new_once(register: NameRegistry) -> None:
    odd = "not\udcff Unicode"
    assert [register.is_new(identity) for identity in ("a", "b", "a", "A", odd, odd)] == [
        *(True, True, False, True, True, False)
    ]
    assert register.unique_name("a") == "a"  # names and images are apart
    assert register.unique_name(odd) == odd


def test_nothing_is_left_when_it_is_closed() -> None:
    register = NameRegistry()
    register.close()
    with pytest.raises(sqlite3.ProgrammingError):
        register.is_new("a")
