"""The command that measures the hazards, in small, and the page that it writes."""

from dataclasses import replace
from pathlib import Path

import pytest

from hftcl.cli.process import COMMANDS as COMMANDS_OF_HFTCL
from tests.hazards import figures, fuzz
from tests.hazards.behaviours import BEHAVIOURS
from tests.hazards.test_archive_hazards import needs_strace

NUMBERS = range(1, 93)


def test_each_hazard_has_a_behaviour_and_a_test() -> None:
    assert sum(map(len, BEHAVIOURS.values())) == len(NUMBERS)
    tests = figures.list_tests()
    assert [number for number in NUMBERS if not tests.get(number)] == []


def test_the_page_of_hazards_is_what_the_command_writes() -> None:
    assert figures.PAGE.read_text() == figures.build_page(figures.read_figures())


def test_the_figures_are_of_one_commit_and_then_of_every_part() -> None:
    """Those of before a commit was kept say so, on the page too."""
    stored = figures.read_figures()
    if {figure.commit for figure in stored} != {"unknown"}:
        figures.require_one_run(stored)
    assert len({figure.name for figure in stored}) == len(stored)


def test_figures_of_two_commits_or_of_a_part_of_the_run_are_no_run() -> None:
    names = [name for name, _ in figures.list_parts(bytes)]
    whole = [figures.Figure(name=name, hazards=(1,), cases=1, failures=(), commit="a") for name in names]
    figures.require_one_run(whole)
    assert "All of one run, at commit a." in figures.build_page(whole)
    with pytest.raises(ValueError, match=r"several commits: \['a', 'b'\]"):
        figures.require_one_run([replace(whole[0], commit="b"), *whole[1:]])
    with pytest.raises(ValueError, match=f"not one whole run: .'{names[0]}'"):
        figures.require_one_run(whole[1:])
    with pytest.raises(ValueError, match="not one whole run"):
        figures.require_one_run([*whole, whole[0]])


def test_a_run_that_was_stopped_goes_on_with_the_parts_that_it_kept(tmp_path: Path) -> None:
    kept = tmp_path / "figures.jsonl"
    first = figures.measure("flipped bytes: o", 100, commit="a", keep=kept)
    assert [(figure.name, figure.cases, figure.failures) for figure in first] == [("flipped bytes: outbox", 7, ())]
    assert figures.read_figures(kept) == first
    told = [replace(first[0], cases=12_345)]
    assert figures.measure("flipped bytes: o", 100, commit="a", known=told, keep=kept) == told
    assert figures.read_figures(kept) == first, "nothing was run again"


@pytest.mark.hazard(60)
@pytest.mark.parametrize("kind", [kind for kind in fuzz.KINDS if kind != "model files"])
def test_nonsense_is_taken_or_refused_by_one_error_of_ours(tmp_path: Path, kind: str) -> None:
    cases = {"bars": 15, "arguments": 25}.get(kind, 120)
    assert fuzz.fuzz(tmp_path, kind, range(cases)) == []


@pytest.mark.hazard(17)
def test_a_damaged_model_file_is_refused_by_one_error_of_ours(tmp_path: Path) -> None:
    assert fuzz.fuzz(tmp_path, "model files", range(80), good=figures.build_model_file()) == []


def test_the_commands_that_are_fuzzed_exist() -> None:
    assert {words[0] for words in fuzz.COMMANDS} <= set(COMMANDS_OF_HFTCL)


@needs_strace
@pytest.mark.hazard(2)
def test_a_write_cut_short_leaves_the_old_model_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    figure = figures.count_short_writes(tmp_path, "deploy", (0, 4096, 40_960))
    assert figure.failures == ()


@needs_strace
@pytest.mark.slow
@pytest.mark.hazard(1)
def test_every_part_of_the_command_finds_nothing_that_is_not_as_it_must_be() -> None:
    """Twenty minutes. Prints the table; writes nothing: that is `python -m tests.hazards.figures`."""
    found = figures.measure()
    assert {figure.name: figure.failures for figure in found if figure.failures} == {}
    assert sum(figure.cases for figure in found if figure.name.startswith("kill -9")) >= 1000
    assert sum(figure.cases for figure in found if figure.name.startswith(("E", "short"))) >= 1000
    assert sum(figure.cases for figure in found if figure.name.startswith("fuzz")) >= 10_000
    assert sum(figure.cases for figure in found if figure.name.startswith("flipped")) >= 2000
