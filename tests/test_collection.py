"""The tests are collected alike in each process: else pytest-xdist says "Different tests were collected", runs none."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.conftest import ROOT

_LONGEST = 120  # characters between the brackets: four values of the length that conftest.py gives


def by_file(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of each file in their order: the files come in the order of the command line."""
    files: dict[str, list[str]] = {}
    for each in ids:
        files.setdefault(each.partition("::")[0], []).append(each)
    return files


@pytest.fixture(scope="module")
def elsewhere() -> list[str]:
    """Return the ids of the whole suite, slow forms too, in another process with other hashes of texts."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
    ]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    ids = done.stdout.partition("\n\n")[0].splitlines()
    assert len(ids) == len(set(ids)) > 2000
    return ids


def test_two_processes_collect_the_same_tests_in_the_same_order(
    elsewhere: list[str], request: pytest.FixtureRequest
) -> None:
    here = [item.nodeid for item in request.session.items]
    selected = set(here)
    there = by_file(each for each in elsewhere if each in selected)
    assert there == by_file(here), "an id tells a time or a folder, or the values come from a set"


def test_no_id_holds_bytes_an_escape_a_time_a_folder_or_a_novel(elsewhere: list[str]) -> None:
    values = {each: each.partition("[")[2].removesuffix("]") for each in elsewhere if "[" in each}
    faults = {
        "an escape, or not ASCII": r"\\|[^ -~]",
        "a time": r"\d:\d\d",
        "a folder": r"(^|[^\w.])/\w",
        f"longer than {_LONGEST}": rf".{{{_LONGEST + 1}}}",
    }
    found = [(fault, each) for each, text in values.items() for fault, form in faults.items() if re.search(form, text)]
    assert not found, "\n".join(["give the values ids=[...]", *map(str, found)])
