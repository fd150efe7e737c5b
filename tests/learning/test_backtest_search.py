"""`backtest --search`: a week's search is the one that could have been run at its end; nothing later decides it."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.errors import TrainingError, UsageError
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.exam.policies import PolicyRun, SessionPnl, build_run
from hftcl.exam.split import Session
from hftcl.learning.backtest.report import FREE, SEARCHED, SEARCHED_FREE
from hftcl.learning.backtest.reports import BacktestReport
from hftcl.learning.backtest.searched import SearchOfWeeks, count_weeks_at_once, report_searched
from hftcl.learning.reports import build_document
from hftcl.learning.search.reports import SearchReport
from hftcl.market.window import open_market
from hftcl.settings import Settings
from tests.in_process import answer_here
from tests.installed import HFTCL, PATIENCE_S, give_calendar
from tests.loop_cases import small

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
FROM, TO = "2025-08-04", "2025-08-14"  # a Monday and a Thursday: weeks end on 08-01 and 08-08
WEEK = "2025-08-08"
TRIALS = 3
TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46
[synthetic]
edge = 1.0
[exam]
sessions = 10
min_sessions = 5
[model]
family = "ridge"
[search]
trials = 3
folds = 1
workers = 1
vary = ["horizon", "entry"]
[search.values]
"model.family" = ["ridge"]
"model.horizon_minutes" = [10, 30, 60]
"strategy.entry_quantile" = [0.7, 0.9]
"""


def settings_of(home: Path, **sections: dict[str, object]) -> Settings:
    values: dict[str, tuple[object, ...]] = {
        "model.family": ("ridge",),
        "model.horizon_minutes": (10, 30, 60),
        "strategy.entry_quantile": (0.7, 0.9),
    }
    usual: dict[str, dict[str, object]] = {
        "market": {"watchlist": ("AAPL", "AMD")},
        "synthetic": {"edge": 1.0},
        "exam": {"sessions": 10, "min_sessions": 5},
        "search": {"values": values, "vary": ("horizon", "entry"), "trials": TRIALS, "folds": 1, "workers": 1},
    }
    return small(home, **{name: {**usual.get(name, {}), **sections.get(name, {})} for name in (*usual, *sections)})


def backtest(settings: Settings, on_event: OnEvent = ignore) -> BacktestReport:
    return ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event).backtest(FROM, TO, search=True)


def read_trials(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the kept trials of each week's search, by the close that ends its bars."""
    with contextlib.closing(sqlite3.connect(home / "backtest" / "search.sqlite")) as db, db:
        rows = db.execute(
            "SELECT as_of, number, choice, sharpe, net, positions FROM trials JOIN studies USING (study) "
            "ORDER BY as_of, number"
        ).fetchall()
    return {as_of[:10]: [row[1:] for row in rows if row[0] == as_of] for as_of in {row[0] for row in rows}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def report(home: Path, events: list[Event]) -> BacktestReport:
    return backtest(settings_of(home), events.append)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchReport]:
    """Return what `hftcl search` finds at the end of the second week, in a home of its own."""
    other = tmp_path_factory.mktemp("by_hand")
    return other, ContinuousLearning(settings_of(other), clock=lambda: NOW).search(as_of=WEEK)


def test_no_more_weeks_are_open_than_fit_into_the_memory_of_this_machine_however_large_the_cluster() -> None:
    told: list[Event] = []
    assert count_weeks_at_once(64, 10**9, told.append, lambda: 5 * 10**9) == 4, "a tenth stays free"
    assert [(event.level, event.text) for event in told] == [
        (Level.WARNING, "4 of 64 weeks at the same time: one takes 1.0 GB here, and 5.0 GB of memory are free")
    ]
    assert count_weeks_at_once(2, 10**9, told.append, lambda: 5 * 10**9) == 2
    assert count_weeks_at_once(64, 10**9, told.append, lambda: None) == 64, "nobody tells"
    assert count_weeks_at_once(64, 10**9, lambda _: None, lambda: 1000) == 1
    assert len(told) == 1


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_week_is_searched_as_the_command_would_have_done_it_at_its_end(
    report: BacktestReport, home: Path, by_hand: tuple[Path, SearchReport]
) -> None:
    other, found = by_hand
    with contextlib.closing(sqlite3.connect(other / "search.sqlite")) as db, db:
        columns = "study, number, choice, policy, sharpe, net, turnover, trades, positions, fault"
        theirs = db.execute(f"SELECT {columns} FROM trials ORDER BY number").fetchall()  # noqa: S608 - our own names
        with contextlib.closing(sqlite3.connect(home / "backtest" / "search.sqlite")) as mine, mine:
            ours = mine.execute(
                f"SELECT {columns} FROM trials JOIN studies USING (study) WHERE as_of LIKE '{WEEK}%' ORDER BY number"  # noqa: S608
            ).fetchall()
    assert len(ours) == TRIALS
    assert ours == theirs, "the digest of what it stands on, every choice and every session, to the bit"
    assert report.search is not None
    week = report.search.weeks[1]
    assert found.winner is not None
    assert found.exam is not None
    assert (week.changes, week.inner_sharpe) == (found.changes, found.winner.inner_sharpe)
    assert week.changes, "another case would not tell the winner from hftcl.toml"


def test_the_winner_is_trained_as_a_retrain_with_its_settings_would_be(
    report: BacktestReport, home: Path, by_hand: tuple[Path, SearchReport]
) -> None:
    _, found = by_hand
    assert found.exam is not None
    assert report.search is not None
    week = report.search.weeks[1]
    models = [artifact.load(path).meta for path in (home / "backtest").glob(f"*/{week.model_id}-*.onnx")]
    assert len(models) == 2, "that of hftcl.toml and that of the winner"
    assert (week.exam_sessions, week.exam_sharpe) == (found.exam.sessions, found.exam.sharpe), "to the bit"


def test_no_later_exam_lies_on_a_session_on_which_a_trial_was_scored(report: BacktestReport, home: Path) -> None:
    for as_of, trials in read_trials(home).items():
        scored = {day for trial in trials for day in json.loads(str(trial[3]))}
        meta = next(
            artifact.load(path).meta for path in (home / "backtest").glob(f"*/{as_of.replace('-', '')}_*.onnx")
            if "fold" not in path.name
        )  # fmt: skip
        assert scored
        assert meta.exam_from is not None
        assert max(scored) < meta.exam_from.isoformat()


def test_searched_stands_beside_the_policy_on_the_same_sessions_and_bars(report: BacktestReport, home: Path) -> None:
    told = build_document(report)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert list(told["policies"])[-2:] == ["searched", "searched, ungated"]
    days = [list(policy["pnl_by_session"]) for policy in told["policies"].values()]
    assert all(each == days[0] for each in days)
    pairs = [(each["policy"], each["against"]) for each in told["differences"]]
    assert pairs[-2:] == [("searched", "policy"), ("searched, ungated", "policy, ungated")]
    assert told["search"]["trials"] == 2 * TRIALS
    assert told["search"]["conclusion"] == "not shown", "two weeks show nothing"
    plain = ContinuousLearning(settings_of(home), clock=lambda: NOW).backtest(FROM, TO)
    assert plain.search is None
    assert plain.resumed == plain.trainings, "a search changes nothing of the rest"
    assert {name: policy for name, policy in report.policies.items() if "searched" not in name} == plain.policies
    assert plain.attempts == report.attempts


WON, LOST = [0.01 + day % 3 for day in range(30)], [-1.0 - day % 2 for day in range(30)]


@pytest.mark.parametrize(("searched", "plain", "concluded"), [(WON, LOST, "paid"), (LOST, WON, "cost")])
def test_a_search_paid_where_its_weeks_earned_more_than_hftcl_toml(
    tmp_path: Path, searched: list[float], plain: list[float], concluded: str
) -> None:
    days = [Session(datetime(2025, 8, day, 13, 30, tzinfo=UTC), date(2025, 8, day)) for day in range(1, 31)]

    def earn(nets: list[float]) -> PolicyRun:
        return build_run([SessionPnl(gross=net, net=net, turnover=1.0) for net in nets], days)

    asked, found = SearchOfWeeks.from_settings(settings_of(tmp_path), None), earn(searched)
    told = report_searched(asked, (), {}, {SEARCHED: found, SEARCHED_FREE: found, FREE: earn(plain)})
    assert told.conclusion == concluded
    assert "Sharpe of searching each week less that of hftcl.toml" in told.reason


def test_the_trials_of_earlier_weeks_count_among_those_that_the_winner_is_the_best_of(report: BacktestReport) -> None:
    assert report.search is not None
    first, second = report.search.weeks
    assert (first.others, first.effective_trials) == (0, first.distinct)
    assert second.distinct < second.effective_trials < second.distinct + second.others <= 2 * TRIALS
    assert second.dsr is not None


def test_the_progress_counts_the_trials_of_all_weeks(report: BacktestReport, events: list[Event]) -> None:
    told = [(event.done, event.total) for event in events if event.stage == "search" and event.total]
    assert told[0] == (0, 2 * TRIALS)
    assert sorted({done for done, _ in told}) == list(range(2 * TRIALS + 1))
    assert told[-1] == (2 * TRIALS, 2 * TRIALS)


# --- stopped, and started again ---------------------------------------------------------------------------------------


def test_a_second_run_tries_and_trains_nothing_and_its_progress_begins_where_it_was(
    report: BacktestReport, home: Path
) -> None:
    before = read_trials(home)
    told: list[Event] = []
    again = backtest(settings_of(home), told.append)
    assert again.search is not None
    assert (again.search.resumed, again.resumed) == (2 * TRIALS, again.trainings)
    assert read_trials(home) == before
    assert replace(again.search, resumed=0) == report.search
    assert again.policies == report.policies
    shown = [(event.done, event.total) for event in told if event.stage == "search"]
    assert shown[0] == (2 * TRIALS, 2 * TRIALS)


@pytest.mark.slow
def test_killed_and_started_again_it_goes_on_and_says_the_same(
    report: BacktestReport, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "hftcl.toml").write_text(TOML)
    give_calendar(tmp_path)
    command = [HFTCL, "backtest", "--search", "--from", FROM, "--to", TO, "--json"]
    slow = ["nice", "-n", "19", *command]  # behind this process on a loaded machine: it has to be met at work
    with subprocess.Popen(
        slow, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as first:
        deadline = time.monotonic() + PATIENCE_S
        while not _count(tmp_path) >= 2:
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()
    kept = read_trials(tmp_path)
    told, expected = answer_here(tmp_path, *command[1:]), build_document(report)
    assert told["search"]["resumed"] == sum(map(len, kept.values())) >= 2
    assert {**told["search"], "resumed": 0} == expected["search"]
    assert told["policies"] == expected["policies"]
    assert read_trials(tmp_path) == read_trials(home), "each once, and the same"


def _count(home: Path) -> int:
    try:
        return sum(map(len, read_trials(home).values()))
    except sqlite3.Error:  # not there yet, or written at this moment
        return 0


# --- no look-ahead ----------------------------------------------------------------------------------------------------


def write_bars(folder: Path, *, cut: datetime | None = None) -> None:
    """Write the synthetic market as files; from `cut` on with other prices and volumes."""
    source, _ = open_market(settings_of(folder))
    folder.mkdir(parents=True)
    for ticker in ("AAPL", "AMD"):
        bars = source.minutes(ticker, date(2025, 5, 19), date(2025, 8, 14))
        if cut is not None:
            later = pl.col("ts") >= cut
            names = ["open", "high", "low", "close", "volume"]
            bars = bars.with_columns(
                pl.when(later).then(pl.col(name).reverse()).otherwise(pl.col(name)) for name in names
            )
        bars.with_columns(ticker=pl.lit(ticker)).write_parquet(folder / f"{ticker}.parquet")


def test_the_search_of_a_week_never_reads_a_bar_after_its_window(tmp_path: Path) -> None:
    write_bars(tmp_path / "honest")
    write_bars(tmp_path / "tampered", cut=datetime(2025, 8, 2, tzinfo=UTC))  # the Saturday after the first week's end
    trials, weeks = [], []
    for name in ("honest", "tampered"):
        settings = settings_of(tmp_path / f"home_{name}", market={"source": "files"})
        settings = replace(settings, files=replace(settings.files, folder=str(tmp_path / name)))
        done = backtest(settings)
        assert done.search is not None
        trials.append(read_trials(tmp_path / f"home_{name}"))
        weeks.append(done.search.weeks)
    assert len(trials[0]["2025-08-01"]) == TRIALS
    assert trials[0]["2025-08-01"] == trials[1]["2025-08-01"]
    assert weeks[0][0] == weeks[1][0]
    assert trials[0][WEEK] != trials[1][WEEK] or weeks[0][1] != weeks[1][1], "the bars were others"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_without_optuna_one_sentence_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(TrainingError, match=r'not installed. It is an extra: pip install "hftcl\[search\]"'):
        backtest(settings_of(tmp_path))
    assert list(tmp_path.iterdir()) == [], "before anything is collected"


def test_trials_without_a_search_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--trials is of --search, which was not given"):
        ContinuousLearning(settings_of(tmp_path), clock=lambda: NOW).backtest(FROM, TO, trials=3)


def test_a_date_that_lies_in_the_future_is_named_by_the_option_that_gave_it(tmp_path: Path) -> None:
    loop = ContinuousLearning(settings_of(tmp_path), clock=lambda: NOW)
    with pytest.raises(UsageError, match=r"^--to 9999-12-31 lies in the future"):
        loop.backtest("2025-08-04", "9999-12-31")


def test_the_table_and_the_page_tell_both_verdicts(report: BacktestReport, capsys: pytest.CaptureFixture[str]) -> None:
    from hftcl import pages
    from hftcl.views import loop

    loop.draw_backtest(report)
    said = " ".join(capsys.readouterr().out.split())
    assert "NOT SHOWN that retraining paid" in said
    assert "NOT SHOWN that searching paid" in said
    page = pages.draw_backtest(report)
    assert report.search is not None
    for week in report.search.weeks:
        assert f"{week.inner_sharpe:.2f}" in said
        assert f">{week.inner_sharpe:.2f}</td>" in page
    assert "<b>Not shown that searching paid.</b>" in page
