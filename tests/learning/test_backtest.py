"""The loop replayed over history: the weeks are those that `retrain` would have had, and nothing later decides them."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from hftcl import ContinuousLearning, durable
from hftcl.archive import artifact
from hftcl.archive.policy import hash_policy
from hftcl.archive.registry import Registry
from hftcl.compute import Bench, Table
from hftcl.errors import LockHeldError, NoDataError, TrainingError, UsageError
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.exam.policies import SessionPnl
from hftcl.exam.split import ExamSplit, Session
from hftcl.learning.backtest import trainings
from hftcl.learning.backtest.courses import compute_first_record
from hftcl.learning.backtest.plan import SessionBars
from hftcl.learning.backtest.reports import BacktestReport
from hftcl.learning.backtest.scores import Score
from hftcl.learning.backtest.story import list_week_ends
from hftcl.learning.backtest.trainings import TrainingOrder, Unit, Workshop, train_unit
from hftcl.learning.reports import build_document
from hftcl.market.sessions import Calendar
from hftcl.market.window import open_market
from hftcl.settings import Settings
from tests.in_process import answer_here
from tests.installed import HFTCL, PATIENCE_S, give_calendar
from tests.loop_cases import small
from tests.processes import children, wait_until, wait_until_ended

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
FROM, TO = "2025-08-04", "2025-08-28"  # a Monday and a Thursday: weeks end on 08-01, 08-08, 08-15 and 08-22


def tiny(home: Path, **sections: dict[str, object]) -> Settings:
    settings = small(home, **sections)
    return replace(
        settings,
        market=replace(settings.market, watchlist=("AAPL", "AMD")),
        synthetic=replace(settings.synthetic, edge=1.0),
        exam=replace(settings.exam, sessions=12, min_sessions=5),
    )


def backtest(settings: Settings, start: str = FROM, end: str = TO, on_event: OnEvent = ignore) -> BacktestReport:
    return ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event).backtest(start, end)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backtest")


@pytest.fixture(scope="module")
def report(home: Path) -> BacktestReport:
    return backtest(tiny(home))


def test_the_loop_retrains_at_the_last_session_of_each_week_before_what_is_compared(report: BacktestReport) -> None:
    assert [attempt.at.date().isoformat() for attempt in report.attempts] == [
        "2025-08-01",
        "2025-08-08",
        "2025-08-15",
        "2025-08-22",
    ]
    assert (report.from_, report.to, report.sessions) == (date(2025, 8, 4), date(2025, 8, 28), 19)
    assert report.synthetic


def test_every_policy_is_told_with_its_interval_and_earns_on_the_same_sessions(report: BacktestReport) -> None:
    told = build_document(report)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert list(told["policies"]) == [
        "policy",
        "policy, ungated",
        "never retrain",
        "always newest",
        "seed, stored scores",
        "stand aside",
        "buy and hold",
    ]
    for each in told["policies"].values():
        assert len(each["pnl_by_session"]) == 19
        assert each["pnl"] == pytest.approx(sum(each["pnl_by_session"].values()))
        if each["turnover"] == 0:  # it never traded
            assert each["sharpe"] is each["interval"] is None
        else:
            assert each["interval"][0] < each["sharpe"] < each["interval"][1]
    assert told["policies"]["never retrain"]["deployments"] == 1
    assert told["policies"]["always newest"]["deployments"] == 4
    assert told["policies"]["stand aside"]["sharpe"] is None
    assert {(each["policy"], each["against"]) for each in told["differences"]} >= {
        ("policy", name) for name in told["policies"] if name != "policy"
    }
    assert told["conclusion"] == "not shown", "four weeks show nothing"
    for name, policy in told["policies"].items():
        net, risk = list(policy["pnl_by_session"].values()), policy["risk"]
        assert sum(each["sessions"] for each in risk["session_bins"]) == sum(made != 0 for made in net), name
        assert (risk["best"], risk["worst"]) == (max(net), min(net)), name


def test_buy_and_hold_is_what_the_stored_closes_say(report: BacktestReport, home: Path) -> None:
    source, calendar = open_market(tiny(home))
    days = calendar.list_sessions(date(2025, 8, 1), date(2025, 8, 28))
    worth = 0.0
    for ticker in ("AAPL", "AMD"):
        raw = source.minutes(ticker, date(2025, 8, 1), date(2025, 8, 28)).sort("ts")
        first = raw.filter(pl.col("ts") < days["close"][0])["close"][-1]
        worth += 0.5 * raw["close"][-1] / first
    compounded = 1.0
    for gross in report.policies["buy and hold"].pnl_by_session.values():
        compounded *= 1 + gross
    assert compounded == pytest.approx(worth, abs=2e-4), "less the cost of buying once, 1 basis point"


def test_a_week_trains_and_is_judged_as_retrain_would_have_done_it(report: BacktestReport, home: Path) -> None:
    attempt = report.attempts[0]
    other = home / "retrain"
    done = ContinuousLearning(tiny(other), clock=lambda: NOW).retrain(force=True, as_of="2025-08-01")
    assert done.challenger is not None
    assert done.model_id is not None
    kept = next((home / "backtest").glob(f"*/{attempt.model_id}-*.onnx"))
    archived = Registry(other).locate_onnx(done.model_id)
    assert artifact.read_graph(kept) == artifact.read_graph(archived)
    ours, theirs = (artifact.load(path).meta for path in (kept, archived))
    assert (ours.importances is None, theirs.importances is None) == (True, False), "no researcher reads a week's"
    assert (ours.feature_bins is None, theirs.feature_bins is None) == (True, False), "and it never serves"
    assert (ours.data_digest, ours.threshold) == (theirs.data_digest, theirs.threshold)
    assert (ours.exam_from, ours.exam_to) == (theirs.exam_from, theirs.exam_to)
    assert attempt.sharpe == done.challenger.sharpe, "to the bit"
    assert (attempt.outcome, attempt.edge, attempt.p_edge) == (done.outcome, done.edge, done.p_edge)
    assert attempt.record_sessions == done.record_sessions


def test_a_second_run_trains_nothing_and_says_the_same(report: BacktestReport, home: Path) -> None:
    again = backtest(tiny(home))
    assert (report.resumed, again.resumed) == (0, again.trainings)
    assert replace(again, timings_s={}, resumed=0) == replace(report, timings_s={})


def test_while_gates_are_replayed_progress_is_told_and_its_folder_is_its_own(
    report: BacktestReport, home: Path
) -> None:
    told: list[tuple[int, int]] = []

    def look(event: Event) -> None:
        if event.stage == "replay":
            told.append((event.done, event.total))
            with pytest.raises(LockHeldError), durable.lock(home / "backtest" / ".lock", "backtest"):
                pass

    backtest(tiny(home), on_event=look)
    gates = 4 * len(report.attempts)
    assert told == [(done, gates) for done in range(gates + 1)]


def test_another_gate_is_replayed_over_the_same_trainings(report: BacktestReport, home: Path) -> None:
    other = backtest(tiny(home, promote={"policy": "seed", "min_sharpe": -100.0}))
    assert other.resumed == other.trainings == report.trainings
    assert other.attempts[0].outcome == "deployed"
    same = "always newest"
    assert other.policies[same] == report.policies[same]


def test_a_damaged_file_is_trained_again_and_told(report: BacktestReport, home: Path) -> None:
    victim = next((home / "backtest").glob(f"*/{report.attempts[1].model_id}-*.onnx"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    told: list[Event] = []
    again = backtest(tiny(home), on_event=told.append)
    assert again.resumed == again.trainings - 1
    assert any(event.level is Level.WARNING and victim.name in event.text for event in told)
    assert replace(again, timings_s={}, resumed=0) == replace(report, timings_s={})


def test_a_longer_history_goes_on_with_the_trainings_there_are(report: BacktestReport, home: Path) -> None:
    longer = backtest(tiny(home), end="2025-09-03")
    assert longer.trainings == report.trainings + 1
    assert longer.resumed == report.trainings
    assert longer.attempts[:4] == report.attempts
    assert backtest(tiny(home), end="2025-08-29").attempts == report.attempts, "nothing comes after that Friday"


def test_nothing_serves_and_no_model_is_archived(report: BacktestReport, home: Path) -> None:
    assert sorted(path.name for path in home.iterdir() if path.name != "retrain") == ["backtest", "bars"]


# --- no look-ahead ----------------------------------------------------------------------------------------------------


def stored(folder: Path, *, cut: datetime | None = None) -> None:
    """Write the synthetic market as files; from `cut` on with other prices and volumes."""
    source, _ = open_market(tiny(folder))
    folder.mkdir(parents=True, exist_ok=True)
    for seed, ticker in enumerate(("AAPL", "AMD")):
        bars = source.minutes(ticker, date(2025, 5, 1), date(2025, 8, 28))
        if cut is not None:
            later = bars.filter(pl.col("ts") >= cut)
            moved = later.sample(fraction=1.0, shuffle=True, seed=seed)
            prices = ["open", "high", "low", "close", "volume"]
            later = later.with_columns(moved[name] * 1.07 for name in prices)
            bars = pl.concat([bars.filter(pl.col("ts") < cut), later.select(bars.columns)])
        bars.with_columns(ticker=pl.lit(ticker)).write_parquet(folder / f"{ticker}.parquet")


def from_files(home: Path, bars: Path) -> Settings:
    settings = tiny(home)
    return replace(
        settings,
        market=replace(settings.market, source="files"),
        files=replace(settings.files, folder=str(bars)),
    )


def test_what_happens_later_changes_no_earlier_training_verdict_or_pnl(tmp_path: Path) -> None:
    cut = datetime(2025, 8, 9, tzinfo=UTC)  # the Saturday after the second week's end
    stored(tmp_path / "honest")
    stored(tmp_path / "tampered", cut=cut)
    honest = backtest(from_files(tmp_path / "a", tmp_path / "honest"), end="2025-08-21")
    tampered = backtest(from_files(tmp_path / "b", tmp_path / "tampered"), end="2025-08-21")
    assert len(honest.attempts) == 3
    assert honest.attempts[:2] == tampered.attempts[:2]
    assert honest.attempts[2] != tampered.attempts[2]
    for name, policy in honest.policies.items():
        ours, theirs = policy.pnl_by_session, tampered.policies[name].pnl_by_session
        before = [day for day in ours if day < "2025-08-09"]
        assert len(before) == 5
        assert [ours[day] for day in before] == [theirs[day] for day in before], name
    newest = [report.policies["always newest"].pnl_by_session for report in (honest, tampered)]
    assert newest[0] != newest[1]
    files = [{path.name for path in (tmp_path / home / "backtest").glob("*/*.onnx")} for home in ("a", "b")]
    assert len(files[0] & files[1]) == honest.trainings - 1, "the training of the last week alone differs"


def test_where_the_bars_begin_later_the_comparison_begins_later_and_says_so(tmp_path: Path) -> None:
    stored(tmp_path / "bars")
    told: list[Event] = []
    settings = from_files(tmp_path / "home", tmp_path / "bars")
    with pytest.raises(NoDataError, match=r"0 sessions from 2025-05-01 to 2025-06-13 .* they begin on 2025-05-01"):
        backtest(settings, "2025-05-01", "2025-06-13")
    report = backtest(settings, "2025-05-01", "2025-06-27", told.append)
    assert report.from_ == date(2025, 6, 23), "46 days from 2025-05-01 are full on 2025-06-20"
    assert any("the bars begin on 2025-05-01" in event.text for event in told)
    assert "2025-05-01" in report.notes[0]


# --- killed -----------------------------------------------------------------------------------------------------------


KILLED = """
import os, signal
from pathlib import Path
replace, models = Path.replace, []
def replace_or_die(path, target):
    models.extend([target] * str(target).endswith(".onnx"))
    if len(models) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = replace_or_die
from hftcl.cli import main
main()
"""


@pytest.mark.slow
def test_killed_and_started_again_it_continues(report: BacktestReport, tmp_path: Path) -> None:
    """Killed as it is about to keep its third training."""
    (tmp_path / "hftcl.toml").write_text(
        '[market]\nwatchlist = ["AAPL", "AMD"]\nlookback_days = 46\n'
        '[model]\nfamily = "ridge"\n[exam]\nsessions = 12\nmin_sessions = 5\n'
    )
    words = ["backtest", "--from", FROM, "--to", TO, "--json"]
    give_calendar(tmp_path)
    command = [sys.executable, "-c", KILLED, *words]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=PATIENCE_S)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert len(list(tmp_path.glob("backtest/*/*.onnx"))) == 2
    told = answer_here(tmp_path, *words)
    assert 2 == told["resumed"] < told["trainings"]
    expected = build_document(report)
    for field in ("policies", "differences", "attempts", "conclusion"):
        assert told[field] == expected[field]


def test_a_termination_ends_it_and_its_trainings_at_once(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text('[market]\nwatchlist = ["AAPL", "AMD"]\n[model]\nn_estimators = 3000\n')
    give_calendar(tmp_path)
    with subprocess.Popen(
        [HFTCL, "backtest", "--from", FROM, "--to", TO], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("train: 0 of"):
                break
        wait_until(lambda: children(running.pid))
        pids = children(running.pid)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=PATIENCE_S) == 143
    wait_until_ended(*pids)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_second_backtest_in_the_same_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "backtest").mkdir()
    with durable.lock(tmp_path / "backtest" / ".lock", "backtest"), pytest.raises(LockHeldError, match="backtest"):
        backtest(tiny(tmp_path))


@pytest.mark.parametrize(
    ("start", "end", "error", "told"),
    [
        ("2025-08-29", "2025-08-04", UsageError, "--from 2025-08-29 lies after --to 2025-08-04"),
        ("August", "2025-08-04", UsageError, "--from 'August' is no date"),
        ("2025-08-04", "2025-13-04", UsageError, "--to '2025-13-04' is no date"),
        (
            "2025-08-04",
            "2025-08-06",
            NoDataError,
            "3 sessions from 2025-08-04 to 2025-08-06 can be compared, needs 5 or more. Ask for an earlier --from, or "
            "ask for a later --to where there are later bars.",
        ),
        (
            "2026-01-07",
            "2026-01-30",
            NoDataError,
            "can be compared, needs 5 or more. Ask for an earlier --from: the bars end on 2026-01-08.",
        ),
        ("2026-02-02", "2026-03-02", NoDataError, "the last one that is ended on 2026-01-08"),
        ("2019-01-07", "2019-03-29", NoDataError, "has too few bars"),
    ],
    ids=["exchanged", "no date", "no such month", "too few sessions", "the bars end", "the future", "no bars"],
)
def test_dates_that_cannot_be_compared_are_one_line(
    start: str, end: str, error: type[Exception], told: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=told) as caught:
        backtest(tiny(tmp_path), start, end)
    assert "\n" not in str(caught.value)


def test_a_week_ends_with_its_last_session_also_where_friday_is_a_holiday() -> None:
    ends = list_week_ends(Calendar("XNYS"), date(2025, 4, 7), date(2025, 5, 1))
    assert ends == (date(2025, 4, 11), date(2025, 4, 17), date(2025, 4, 25)), "Good Friday; 2025-05-01 is no end"


# --- a night that looks like a split ---------------------------------------------------------------------------------


def test_a_halved_price_is_told_and_only_the_windows_that_span_the_night_lose_what_lies_before(tmp_path: Path) -> None:
    night = date(2025, 8, 13)  # a Wednesday in the third week that is compared
    source, calendar = open_market(tiny(tmp_path))
    folder = tmp_path / "bars"
    folder.mkdir()
    last: dict[str, tuple[float, float]] = {}
    for ticker in ("AAPL", "AMD"):
        bars = source.minutes(ticker, date(2025, 5, 1), date(2025, 8, 28))
        if ticker == "AMD":
            halved = (pl.col(name) / 2 for name in ("open", "high", "low", "close"))
            late = bars.filter(pl.col("ts").dt.date() >= night).with_columns(*halved)
            bars = pl.concat([bars.filter(pl.col("ts").dt.date() < night), late])
        bars.write_parquet(folder / f"{ticker}.parquet")
        regular = bars.filter(pl.col("ts") < calendar.list_sessions(date(2025, 8, 1), date(2025, 8, 1))["close"][0])
        last[ticker] = (regular["close"][-1], bars["close"][-1])
    settings = from_files(tmp_path / "home", folder)
    settings = replace(settings, market=replace(settings.market, min_coverage=0.0))
    told: list[Event] = []
    report = backtest(settings, on_event=told.append)

    note = next(text for text in report.notes if text.startswith("AMD"))
    assert "factor of 0.496" in note, "half, and what the night itself did"
    assert "2025-08-13" in note
    assert "2 weekly windows of 4 span that night" in note
    assert note in [event.text for event in told]
    compounded = 1.0
    for gross in report.policies["buy and hold"].pnl_by_session.values():
        compounded *= 1 + gross
    assert compounded == pytest.approx(sum(after / before for before, after in last.values()) / 2, abs=2e-4)

    for attempt in (report.attempts[1], report.attempts[2]):  # a week that ends before the night, and one after it
        day = attempt.at.date().isoformat()
        other = replace(settings, paths=replace(settings.paths, home=str(tmp_path / day)))
        events: list[Event] = []
        done = ContinuousLearning(other, clock=lambda: NOW, on_event=events.append).retrain(force=True, as_of=day)
        assert done.model_id is not None
        assert done.challenger is not None
        (kept,) = (tmp_path / "home" / "backtest").glob(f"*/{attempt.model_id}-*.onnx")
        ours, theirs = (
            artifact.load(path).meta for path in (kept, Registry(tmp_path / day).locate_onnx(done.model_id))
        )
        assert ours.data_digest == theirs.data_digest, day
        assert attempt.sharpe == done.challenger.sharpe, day
        assert any("left out" in event.text and "AMD" in event.text for event in events) == (day > "2025-08-13")


def test_a_ticker_that_a_week_leaves_out_is_no_peer_of_the_others(tmp_path: Path) -> None:
    settings = from_files(tmp_path / "home", tmp_path / "bars")
    settings = replace(
        settings,
        market=replace(settings.market, watchlist=("AAPL", "AMD", "TSLA"), min_coverage=0.9),
        model=replace(settings.model, family="ridge"),
    )
    stored(tmp_path / "bars")
    late = open_market(tiny(tmp_path))[0].minutes("TSLA", date(2025, 7, 7), date(2025, 8, 28))
    late.write_parquet(tmp_path / "bars" / "TSLA.parquet")
    attempt = backtest(settings, end="2025-08-08").attempts[0]
    day = attempt.at.date().isoformat()
    other = replace(settings, paths=replace(settings.paths, home=str(tmp_path / "other")))
    done = ContinuousLearning(other, clock=lambda: NOW).retrain(force=True, as_of=day)
    assert done.model_id is not None
    assert done.challenger is not None
    (kept,) = (tmp_path / "home" / "backtest").glob(f"*/{attempt.model_id}-*.onnx")
    path = Registry(tmp_path / "other").locate_onnx(done.model_id)
    ours, theirs = (artifact.load(path).meta for path in (kept, path))
    assert theirs.tickers == ("AAPL", "AMD")
    assert ours.data_digest == theirs.data_digest
    assert attempt.sharpe == done.challenger.sharpe


def test_the_record_begins_with_the_walk_forward_of_the_first_week_that_has_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "bars")
    whole_from = date(2025, 7, 8)  # before it 90 minutes a day: too few rows for a model a ticker in the first week
    for path in (tmp_path / "bars").glob("*.parquet"):
        bars = pl.read_parquet(path)
        minute = (pl.col("ts") - pl.col("ts").min().over(pl.col("ts").dt.date())).dt.total_minutes()
        bars.filter((pl.col("ts").dt.date() >= whole_from) | (minute < 90)).write_parquet(path)
    settings = from_files(tmp_path / "home", tmp_path / "bars")
    settings = replace(settings, model=replace(settings.model, family="ridge", per="ticker"))
    report = backtest(settings, end="2025-08-14")
    assert any(note.startswith("20250801") and "has no model" in note for note in report.notes)
    assert report.attempts[0].at.date() == date(2025, 8, 8)
    folds = {path.name.partition("_fold")[0] for path in (tmp_path / "home" / "backtest").glob("*/*_fold*.onnx")}
    assert folds == {report.attempts[0].model_id}
    assert report.attempts[0].record_sessions == settings.exam.sessions
    again = backtest(settings, end="2025-08-14")
    assert again.resumed == again.trainings - 1, "all but the week that cannot be trained"

    trained: list[str] = []

    def train_or_die(rows: pl.DataFrame, order: TrainingOrder, bench: Bench) -> bytes | str:
        trained.append(order.model_id.partition("_")[0])
        if trained[-1] == "20250808":
            raise TrainingError("The training process was killed by SIGSEGV.")
        return train_unit(rows, order, bench)

    next((tmp_path / "home" / "backtest").glob(f"*/{report.attempts[0].model_id}-*.onnx")).unlink()
    monkeypatch.setattr(trainings, "train_unit", train_or_die)
    told: list[Event] = []
    with pytest.raises(TrainingError, match="SIGSEGV"):
        backtest(settings, end="2025-08-14", on_event=told.append)
    assert sorted(trained) == ["20250801", "20250808"], "each once"
    assert len([event for event in told if "has no model" in event.text]) <= 1


def test_a_week_that_ends_with_what_is_compared_is_not_trained(report: BacktestReport, home: Path) -> None:
    """No session is left on which its model could earn anything."""
    shorter = backtest(tiny(home), end="2025-08-22")
    assert [attempt.model_id for attempt in shorter.attempts] == [each.model_id for each in report.attempts[:3]]


DAYS = tuple(Session(datetime(2025, 8, day, 13, 30, tzinfo=UTC), date(2025, 8, day)) for day in (4, 5, 6, 7))


def a_unit(model_id: str, exam: tuple[Session, ...]) -> Unit:
    division = ExamSplit(train=(), embargoed=(), exam=exam, withheld=())
    return Unit(model_id=model_id, window=DAYS, tickers=("AAPL",), split=division, key="", warm_up=DAYS[0].day)


def test_of_the_first_exam_each_fold_counts_what_its_own_model_earned(report: BacktestReport, home: Path) -> None:
    meta = artifact.describe(next((home / "backtest").glob(f"*/{report.attempts[0].model_id}-*.onnx")))

    def score(net: float) -> Score:
        earned = SessionPnl(gross=net, net=net, turnover=1.0)
        return Score(meta=meta, marks={session.day: earned for session in DAYS}, fault=None)

    first, folds = a_unit("first", DAYS), [a_unit("fold1", DAYS[2:3]), a_unit("fold2", DAYS[3:])]
    scores = {"first": score(1.0)}
    assert compute_first_record(first, folds, scores, {"fold1": score(2.0), "fold2": score(3.0)}) == (1, 1, 2, 3)
    assert compute_first_record(first, folds, scores, {"fold2": score(3.0)}) == (1, 1, 1, 3), "a fold without a model"


def test_a_ticker_with_bars_in_just_the_share_that_is_asked_for_is_kept() -> None:
    days = [session.day for session in DAYS]
    present = {day: frozenset({"AAPL", "AMD"} if place % 2 else {"AAPL"}) for place, day in enumerate(days)}
    bars = SessionBars(DAYS, present, {})
    assert bars.list_tickers(days, 0.5, ()) == ("AAPL", "AMD")
    assert bars.list_tickers(days, 0.51, ()) == ("AAPL",)
    assert bars.list_tickers(days[:1], 0.5, ()) == ("AAPL",)


@pytest.mark.parametrize(
    "values", [[None, 1.0], [0.0, None], [-0.0, 1.0], [0.0, 2.0]], ids=["a null", "a later null", "a sign", "a value"]
)
def test_the_digest_of_a_session_changes_with_each_value_of_its_rows_and_no_other_one_does(
    values: list[float | None],
) -> None:
    """A training that is kept is found by it: one of other rows must not be taken for it."""

    def digest(first: list[float | None]) -> dict[date, bytes]:
        days = [DAYS[0].day, DAYS[0].day, DAYS[1].day]
        columns = {"ticker": ["AAPL", "AMD", "AAPL"], "session": days, "ts": [NOW] * 3, "value": [*first, 1.0]}
        return dict(SessionBars.from_frame(pl.DataFrame(columns)).digests)

    before, after = digest([0.0, 1.0]), digest(values)
    assert before[DAYS[0].day] != after[DAYS[0].day]
    assert before[DAYS[1].day] == after[DAYS[1].day]


@pytest.mark.parametrize(("horizon", "other"), [(30, False), (10, True)])
def test_a_training_of_another_horizon_than_that_of_the_rows_makes_its_own_target(horizon: int, *, other: bool) -> None:
    settings = replace(Settings(), model=replace(Settings().model, horizon_minutes=horizon))
    assert build_shop_of(settings).build_order(a_unit("one", DAYS)).is_other_target is other


def build_shop_of(settings: Settings) -> Workshop:
    """Return a workshop whose rows have the target of half an hour."""
    return Workshop(
        settings=settings,
        table=Table(pl.DataFrame),
        params={},
        features=artifact.list_our_features(),
        source="x",
        synthetic=True,
        frame_minutes=30,
    )


def find_folder(settings: Settings) -> Path:
    return build_shop_of(settings).folder


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("market", "watchlist", ("AAPL",)),
        ("market", "lookback_days", 50),
        ("market", "extended_hours", True),
        ("features", "drop_below", 0.001),
        ("model", "family", "ridge"),
        ("model", "horizon_minutes", "auto"),
        ("model", "half_life_days", 5.0),
        ("model", "novelty", 0.9),
        ("strategy", "entry_quantile", 0.5),
        ("strategy", "flat_minutes_before_close", 5),
        ("strategy", "cost_bps", 3.0),
        ("strategy", "entry", "net"),
        ("strategy", "side", "long"),
        ("strategy", "weighting", "inverse_volatility"),
        ("exam", "sessions", 12),
        ("exam", "embargo_sessions", 2),
    ],
)
def test_what_a_policy_is_of_is_another_cache(section: str, name: str, value: object) -> None:
    settings = Settings()
    changed = replace(settings, **{section: replace(getattr(settings, section), **{name: value})})
    assert hash_policy(changed) != hash_policy(settings), "else it has no place here"
    assert find_folder(changed) != find_folder(settings)


def test_another_rule_of_promotion_reads_the_same_trainings() -> None:
    settings = Settings()
    assert find_folder(replace(settings, promote=replace(settings.promote, policy="seed"))) == find_folder(settings)


def test_another_version_of_a_boosting_library_is_another_cache(tmp_path: Path) -> None:
    """A model of the cache must not outlive the library that fitted it."""
    settings = replace(Settings(), paths=replace(Settings().paths, home=str(tmp_path)))
    before, site = find_folder(settings), tmp_path / "site"
    for name in ("lightgbm", "xgboost", "xgboost_cpu"):
        about = site / f"{name}-0.0.1.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
        sys.path.insert(0, str(site))
        try:
            assert find_folder(settings) != before
        finally:
            sys.path.remove(str(site))
            shutil.rmtree(site)
    assert find_folder(settings) == before
