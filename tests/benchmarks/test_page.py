"""The page of the benchmarks: what its figures say, what it marks, and that it is the one that its figures make."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hftcl import __version__
from hftcl.compute.code_digest import hash_code
from tests.benchmarks.environments import MARK, NotInstalledError, find_last_line, make_environment, make_environments
from tests.benchmarks.figures import Figures, Measured, Origin, compare, divide, find_slope, list_ratios
from tests.benchmarks.machine import count_busy_s, find_origin
from tests.benchmarks.page import PAGE, STORED, main, store
from tests.benchmarks.page_text import build_page
from tests.benchmarks.parts import Bench, call, choose_parts, measure_part, renew, take_turns


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
    minutes={20: tuple(float(ms) for ms in range(1, 100))},
    others={"peers": 0.02},
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
    assert "| tickers | 25, 50, 100 | 2.0, 4.0, 8.0 | 1.00 | 2.0, 4.0, 8.0 | 1.00 | 100, 110, 121 | 0.14 |" in page
    assert "| days | 60 | 2.0 | one size | 2.0 | one size | 100 | one size |" in build_page(
        MADE_UP.add(Figures(growth={"days": {60: taken(2.0)}}))
    )


def test_each_size_is_a_part_of_its_own_and_a_later_run_of_one_keeps_the_others() -> None:
    assert choose_parts(["tickers", "days", "minutes"]) == [
        "50 tickers", "150 tickers", "500 tickers", "60 days", "120 days", "240 days", "minutes",
    ]  # fmt: skip
    assert choose_parts(["500 tickers", "tickers"])[0] == "500 tickers"
    assert choose_parts(["all features"]) == ["all features"], (
        "and not that of the guide, which takes a quarter of an hour"
    )
    assert choose_parts(["tickers, lightgbm"]) == [f"{size} tickers, lightgbm" for size in (50, 150, 500)]
    with pytest.raises(ValueError, match=r"'features' is no part"):
        choose_parts(["features"])
    with pytest.raises(ValueError, match=r"'tickets' is no part. Parts are: machine,.* 50 tickers, "):
        choose_parts(["tickets"])
    later = MADE_UP.add(Figures(growth={"tickers": {50: taken(9.0), 200: taken(16.0)}}))
    assert {size: one.cpu_s for size, one in later.growth["tickers"].items()} == {
        25: (2.0,), 50: (9.0,), 100: (8.0,), 200: (16.0,),
    }  # fmt: skip
    assert list(later.growth["tickers"]) == [25, 50, 100, 200]


def test_a_figure_of_an_earlier_hftcl_than_the_newest_is_never_told_without_saying_so() -> None:
    early = Origin(code="a", commit="1234567", version="0.1.0", at="2026-01-05 10:00")
    late = Origin(code="b", commit="89abcde", version="0.2.0", at="2026-02-05 10:00")
    again = Figures(cases={"scikit-learn-intelex": taken(3.0, 3.0, 3.0)}, growth={"tickers": {50: taken(4.0)}})
    page = build_page(MADE_UP.sign(early).add(again.sign(late)))
    assert "The newest run measured hftcl 0.2.0, commit 89abcde, 2026-02-05." in page
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    old, both = "older: hftcl 0.1.0, commit 1234567, 2026-01-05", ("hftcl retrain, forest / scikit", "tickers | 25, 50")
    for row in rows:
        head, said = row.removeprefix("| "), row.rpartition(" | ")[2]
        if head.startswith("scikit-learn-intelex"):
            assert said == "newest |"
        elif head.startswith(both):
            assert (old in said, "newest" in said) == (True, True), row
        elif "measured of" not in row:
            assert said == f"{old} |", row
    assert "| not known |" in build_page(MADE_UP)


def test_what_is_measured_again_with_the_same_code_is_as_new_as_the_newest() -> None:
    first = Origin(code="a", commit="1234567", version="0.1.0", at="2026-01-05 10:00")
    later = replace(first, commit="2345678", at="2026-01-06 10:00")
    assert "| older" not in build_page(MADE_UP.sign(first).add(Figures(cases=MADE_UP.cases).sign(later)))


def test_a_part_tells_which_code_it_measured() -> None:
    bench, origin = Bench(folder=Path(), pythons={}, missing={}, turns=1), find_origin()
    measured = measure_part("made up", bench, {"made up": lambda _: MADE_UP})
    assert (origin.code, origin.version) == (hash_code()[:12], __version__)
    assert {one.code for one in measured.origins.values()} == {origin.code}
    names = ("hftcl retrain, forest", "tickers, 25", "a minute, 20 tickers", "hftcl --help")
    assert measured.tell_origin(*names) == "newest"
    assert list(measured.others) == ["peers", "made up"]


def test_figures_of_a_busy_machine_are_never_told_as_those_of_an_idle_one() -> None:
    assert "**Other programs" not in build_page(MADE_UP)
    busy = MADE_UP.add(Figures(others={"backtest": 0.44}))
    assert "**Other programs ran meanwhile: no figure is that of an idle machine of backtest (0.4" in build_page(busy)
    assert "Nothing has been measured on an idle machine yet." in build_page(Figures())


def test_what_other_programs_took_is_all_but_the_time_in_which_a_core_waited() -> None:
    # user 3 s, nice 1, system 1, idle 90, disk 0.7, interrupts 0.1 and 0.2, stolen 0; guests are in user already
    assert count_busy_s("cpu  300 100 100 9000 70 10 20 0 55 5\ncpu0 1 1 1 1 1", 100) == pytest.approx(5.3)


def test_a_minute_is_told_by_its_median_and_its_slowest_hundredth() -> None:
    assert "| 20 | 50.0 | 99.0 |" in build_page(MADE_UP)


def test_a_ratio_is_told_by_processor_and_by_clock() -> None:
    cases = {**MADE_UP.cases, "the guide's stack": replace(taken(30.0, 60.0, 24.0), wall_s=(12.0, 24.0, 12.0))}
    row = "| hftcl retrain, forest / the guide's stack | 0.20 (0.20 to 0.25) | 0.50 (0.50 to 0.50) |"
    assert row in build_page(replace(MADE_UP, cases=cases))


def test_a_peer_that_could_not_be_installed_is_named_with_the_last_line_of_pip() -> None:
    last = find_last_line("Collecting pyqlib\nERROR: No matching distribution found for pyqlib==0.9.7\n\n")
    measured = Figures(cases={"FreqAI": taken(9.0, 9.0, 9.0)}, missing={"Qlib": f"it could not be installed: {last}"})
    page = build_page(MADE_UP.add(measured))
    assert page.endswith(
        "Not measured:\n\n- Qlib: it could not be installed: ERROR: No matching distribution found for pyqlib==0.9.7.\n"
    )
    assert "Not measured" not in build_page(
        MADE_UP.add(Figures(cases=dict.fromkeys(("FreqAI", "Qlib"), taken(9.0, 9.0, 9.0))))
    )


def test_an_environment_is_used_again_while_its_pins_are_the_same(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("one==1.0")
    assert make_environment(tmp_path, ("one==1.0",)) == tmp_path / "bin" / "python"
    (tmp_path / "bin").write_text("in the way of venv")
    with pytest.raises(NotInstalledError, match="bin"):
        make_environment(tmp_path, ("one==1.1",))


def test_without_a_folder_for_environments_each_peer_is_missing_and_says_so() -> None:
    pythons, missing = make_environments(None)
    assert (pythons, list(missing)) == ({}, ["FreqAI", "Qlib"])
    assert all("--peers FOLDER" in why for why in missing.values())


def test_a_part_that_was_kept_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(store(MADE_UP.add(Figures(others={"machine": 0.0}))))
    main(["--short", "--only", "machine", "--keep", str(kept)])
    told = capsys.readouterr()
    assert "hftcl retrain, forest / the guide's stack" in told.out
    assert "0.20 (0.20 to 0.25)" in told.out
    assert told.err == ""


def test_a_part_that_is_none_is_told_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nope"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: ")
    assert "error: 'nope' is no part. Parts are: machine, " in told


def test_what_is_measured_aside_leaves_the_page_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, before = tmp_path / "kept.json", (PAGE.read_bytes(), STORED.read_bytes())
    main(["--only", "machine", "--loaded", "--aside", "--keep", str(kept)])
    assert "-- machine: " in capsys.readouterr().err
    assert Figures.from_json(json.loads(kept.read_text())).machine["cores"]
    assert (PAGE.read_bytes(), STORED.read_bytes()) == before


def test_parts_of_two_runs_make_one_page() -> None:
    first, second = Figures(cases=MADE_UP.cases, others={"peers": 0.1}), Figures(startup=MADE_UP.startup)
    both = first.add(second)
    assert (both.cases, both.startup, both.others) == (MADE_UP.cases, MADE_UP.startup, {"peers": 0.1})
    later = Figures(cases={"LightGBM": taken(2.0)}, others={"peers": 0.0})
    assert list(both.add(later).cases) == [*MADE_UP.cases, "LightGBM"]
    assert both.add(later).others == {"peers": 0.0}


def test_figures_come_back_from_their_file_as_they_were() -> None:
    assert Figures.from_json(json.loads(store(MADE_UP))) == MADE_UP


def test_the_page_is_the_one_that_the_stored_figures_make() -> None:
    """Where this fails: `python -m tests.benchmarks.page --page`."""
    assert PAGE.read_text() == build_page(Figures.from_json(json.loads(STORED.read_text())))


def test_turns_are_taken_in_turn_and_a_new_home_keeps_its_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("")
    note = f"open({str(tmp_path / 'order')!r}, 'a').write"
    works = {name: call("-c", f"{note}('{name}')") for name in "ab"}
    measured = take_turns(works, 2)
    assert (tmp_path / "order").read_text() == "abab"
    assert [len(one.cpu_s) for one in measured.values()] == [2, 2]
    assert all(seconds > 0 for one in measured.values() for seconds in one.cpu_s)
    renew(tmp_path, works["a"])()
    assert (tmp_path / "order").read_text() == "a"
    assert (tmp_path / "hftcl.toml").exists()


def test_the_processor_time_of_a_cluster_is_not_told_as_that_of_its_client() -> None:
    local, cluster = "backtest, three months", "backtest, four Dask workers"
    figures = MADE_UP.add(Figures(cases={local: taken(20.0), cluster: taken(5.0)}, others={"Dask": 0.8}))
    assert f"{cluster} / {local}" not in list_ratios(figures)
    assert f"{cluster} / {local}" in list_ratios(figures, by_clock=True)
    rows = [line for line in build_page(figures).splitlines() if line.startswith(f"| {cluster}")]
    assert ["not seen" in row for row in rows] == [True, True]
    assert "Other programs ran" not in build_page(figures), "they were the cluster's own workers"
