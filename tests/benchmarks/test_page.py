"""The page of the benchmarks: what its figures say, what it marks, and that it is the one that its figures make."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.benchmarks.figures import Figures, Measured, build_page, compare, divide, find_slope, list_ratios
from tests.benchmarks.page import PAGE, STORED, call, renew, take_turns


def taken(*cpu_s: float, mib: int = 100) -> Measured:
    return Measured(cpu_s=cpu_s, wall_s=cpu_s, memory=(mib << 20,) * len(cpu_s))


MADE_UP = Figures(
    cases={
        "hftcl retrain, forest": taken(6.0, 12.0, 6.0),
        "the guide's stack": taken(30.0, 60.0, 24.0),
        "scikit-learn-intelex": taken(3.0, 3.0, 3.0),
    },
    growth={"tickers": {25: taken(2.0, mib=100), 50: taken(4.0, mib=110), 100: taken(8.0, mib=121)}},
    startup={"python -c pass": taken(0.02, 0.02), "hftcl --help": taken(0.1, 0.12)},
    machine={"cores": "2"},
    versions={"numpy": "2.0"},
)


def test_a_ratio_is_taken_turn_by_turn_and_tells_its_spread() -> None:
    assert str(list_ratios(MADE_UP)["hftcl retrain, forest / the guide's stack"]) == "0.20 (0.20 to 0.25)"
    assert str(list_ratios(MADE_UP)["hftcl --help / python -c pass"]) == "5.50 (5.00 to 6.00)"
    with pytest.raises(ValueError, match="zip"):
        divide([1.0], [1.0, 2.0])


def test_what_is_worse_by_more_than_a_third_is_marked_and_what_is_new_is_said_to_be() -> None:
    slower = replace(MADE_UP, cases={**MADE_UP.cases, "hftcl retrain, forest": taken(8.1, 16.2, 8.1)})
    marked = [line for line in compare(slower, MADE_UP) if line.endswith("WORSE")]
    assert [line.split("  ")[0] for line in marked] == [
        "hftcl retrain, forest / the guide's stack",
        "hftcl retrain, forest / scikit-learn-intelex",
    ]
    assert not any(line.endswith("WORSE") for line in compare(MADE_UP, slower))
    assert all("not recorded" in line for line in compare(MADE_UP, Figures()))


def test_growth_is_the_slope_of_the_logarithms() -> None:
    assert find_slope({1: 3.0, 10: 30.0 * 10**0.5, 100: 3000.0}) == pytest.approx(1.5)
    page = build_page(MADE_UP)
    assert "| tickers | 25, 50, 100 | 2.0, 4.0, 8.0 | 1.00 | 100, 110, 121 | 0.14 |" in page


def test_figures_of_a_busy_machine_are_never_told_as_those_of_an_idle_one() -> None:
    assert "idle machine.**" not in build_page(MADE_UP)
    assert "Other programs ran meanwhile" in build_page(replace(MADE_UP, idle=False))
    assert "Nothing has been measured on an idle machine yet." in build_page(Figures())


def test_figures_come_back_from_their_file_as_they_were() -> None:
    assert Figures.from_json(json.loads(json.dumps(asdict(MADE_UP)))) == MADE_UP


def test_the_page_is_the_one_that_the_stored_figures_make() -> None:
    """Where this fails: `python -m tests.benchmarks.page --page`."""
    assert PAGE.read_text() == build_page(Figures.from_json(json.loads(STORED.read_text())))


def test_turns_are_taken_in_turn_and_a_new_home_keeps_its_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("")
    note = f"open({str(tmp_path / 'order')!r}, 'a').write"
    works = {name: call("-c", f"{note}('{name}')") for name in "ab"}
    measured = take_turns(works, 2)
    assert (tmp_path / "order").read_text() == "ababab"
    assert [len(one.cpu_s) for one in measured.values()] == [2, 2]
    assert all(seconds > 0 for one in measured.values() for seconds in one.cpu_s)
    renew(tmp_path, works["a"])()
    assert (tmp_path / "order").read_text() == "a"
    assert (tmp_path / "hftcl.toml").exists()
    assert sys.executable
