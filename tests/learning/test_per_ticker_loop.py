"""A model a ticker in record, backtest and search: what each ticker's own model would have done, to the bit."""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.record import RecordedSession, read_all
from hftcl.archive.registry import Registry
from hftcl.events import go_on, ignore
from hftcl.exam.simulation import simulate
from hftcl.exam.split import ExamSplit, list_sessions, split
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.inside import Training
from hftcl.learning.record_scoring import split_folds
from hftcl.learning.reports import RetrainReport
from hftcl.learning.search.reports import SearchReport
from hftcl.learning.training_rows import TrainingRows
from hftcl.model.features import is_known
from hftcl.model.serving import Predictor
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from hftcl.strategy.positions import compute_target_positions
from hftcl.strategy.weights import weigh
from tests.in_process import answer_here
from tests.installed import HFTCL, PATIENCE_S, give_calendar
from tests.loop_cases import NOW, small

FROM, TO = "2025-08-04", "2025-08-14"  # a Monday and a Thursday: weeks end on 08-01 and 08-08
FIRST_WEEK, SECOND_WEEK = "2025-08-01", "2025-08-08"
TRIALS = 2
TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46
[synthetic]
edge = 1.0
[exam]
sessions = 10
min_sessions = 5
[promote]
min_sharpe = -100
tolerance = 0.99
min_p_better = 0
[model]
family = "ridge"
per = "ticker"
[search]
folds = 1
workers = 1
vary = ["horizon", "entry"]
[search.values]
"model.family" = ["ridge"]
"model.horizon_minutes" = [10, 30]
"strategy.entry_quantile" = [0.7, 0.9]
"""


def build_settings(home: Path, **model: object) -> Settings:
    """Return what TOML says."""
    values: dict[str, tuple[object, ...]] = {
        "model.family": ("ridge",),
        "model.horizon_minutes": (10, 30),
        "strategy.entry_quantile": (0.7, 0.9),
    }
    return small(
        home,
        market={"watchlist": ("AAPL", "AMD")},
        synthetic={"edge": 1.0},
        exam={"sessions": 10, "min_sessions": 5},
        promote={"min_sharpe": -100.0, "tolerance": 0.99, "min_p_better": 0.0},
        model={"per": "ticker", **model},
        search={"values": values, "vary": ("horizon", "entry"), "folds": 1, "workers": 1},
    )


def retrain(settings: Settings, as_of: str, **more: Any) -> RetrainReport:
    return ContinuousLearning(settings, clock=lambda: NOW, on_event=ignore).retrain(force=True, as_of=as_of, **more)


def read_record(home: Path) -> tuple[RecordedSession, ...]:
    return tuple(row for row, current in read_all(Registry(home), synthetic=True) if current)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home after its retrain at the end of the first week, and the report."""
    home = tmp_path_factory.mktemp("by_hand")
    return home, retrain(build_settings(home), FIRST_WEEK)


# --- the record -------------------------------------------------------------------------------------------------------


def earn_alone(data: Dataset, part: ExamSplit, settings: Settings, pool: TrainingPool) -> list[float]:
    """Return the net P&L of the sessions of `part`: one training a ticker on its rows alone, put together by hand."""
    names = data.features.names
    one_for_all = replace(settings, model=replace(settings.model, per="watchlist"))
    training = Training(settings=one_for_all, params=merge_params(one_for_all), pool=pool, on_event=ignore)
    exam = data.frame.filter(pl.col("session").is_in(part.exam_days))
    held_out, parts = [], []
    for ticker in data.tickers:
        rows = TrainingRows.gather(data.frame.filter(pl.col("ticker") == ticker), part, one_for_all, names, go_on)
        trained = training.train(rows, keep_inner=True)
        held_out.append(Predictor(trained.inner_onnx, len(names)).predict(rows.X[rows.held_out]))
        own = exam.filter((pl.col("ticker") == ticker) & is_known(names))
        predicted = Predictor(trained.onnx, len(names)).predict(own.select(names).to_numpy().astype(np.float32))
        parts.append(own.select("ticker", "ts").with_columns(prediction=pl.Series(predicted)))
    threshold = float(np.float32(np.quantile(np.abs(np.concatenate(held_out)), settings.strategy.entry_quantile)))
    predicted_rows = exam.join(pl.concat(parts), on=["ticker", "ts"], how="left", maintain_order="left")
    positions = compute_target_positions(
        predicted_rows.select("ticker", "ts", "session", "minute", "session_minutes", "prediction"),
        threshold=threshold,
        horizon_minutes=settings.model.target_minutes,
        weight=weigh(settings.market.watchlist, None),
        flat_minutes_before_close=settings.strategy.flat_minutes_before_close,
        side="both",
    )
    simulation = simulate(exam, positions, cost_bps=settings.strategy.cost_bps, sessions=part.exam_days)
    return [float(net) for net in simulation.net]


def test_a_record_holds_what_a_model_of_each_ticker_alone_would_have_earned_to_the_bit(
    by_hand: tuple[Path, RetrainReport],
) -> None:
    home, _ = by_hand
    settings = build_settings(home)
    data = open_window(settings, as_of=FIRST_WEEK, now=NOW, save=False, on_event=ignore).assemble()
    sessions = list_sessions(data.frame)
    division = split(sessions, exam_sessions=settings.exam.sessions, embargo_sessions=settings.exam.embargo_sessions)
    folds = split_folds(sessions, division, embargo_sessions=settings.exam.embargo_sessions)
    with TrainingPool() as pool:
        expected = [net for part in folds for net in earn_alone(data, part, settings, pool)]
    record = read_record(home)
    assert [row.session for row in record] == list(division.exam_days)
    assert [row.net for row in record] == expected
    assert len(set(expected)) == len(expected) == 10, "another case would not tell two ways of earning apart"


def test_a_record_of_a_model_a_ticker_goes_on_with_it_and_is_none_of_one_model_for_all_nor_ended_by_a_rollback(
    by_hand: tuple[Path, RetrainReport], tmp_path: Path
) -> None:
    home, _ = by_hand
    other = Path(shutil.copytree(home, tmp_path / "home"))
    begun = read_record(other)
    week = retrain(build_settings(other), SECOND_WEEK)
    assert week.record_sessions == 15
    later = read_record(other)
    assert later[: len(begun)] == begun
    assert {row.kind for row in later[len(begun) :]} == {"scored"}
    assert {row.model_id for row in later[len(begun) :]} == {begun[0].model_id}, "the model of its day"
    shared = retrain(build_settings(other, per="watchlist"), SECOND_WEEK)
    assert (shared.outcome, shared.record_sessions) == ("deployed", 10), "another policy begins another record"
    loop = ContinuousLearning(build_settings(other), clock=lambda: NOW, on_event=ignore)
    assert loop.rollback_to_previous_model().to_model == week.model_id
    assert set(later) < set(read_record(other)), "which rewrites nothing"
    assert loop.retrain(force=True, as_of=SECOND_WEEK, dry_run=True).record_sessions == 15, (
        "put back, it is found again"
    )
    assert sum(feature.importance or 0.0 for feature in loop.features(as_of=SECOND_WEEK).features) == pytest.approx(1)


# --- backtest and search ----------------------------------------------------------------------------------------------


def read_trials(file: Path, as_of: str) -> list[tuple[object, ...]]:
    """Return the trials of the search whose bars end with the session `as_of`, all that a trial is."""
    try:
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            return db.execute(
                "SELECT study, number, choice, policy, sharpe, net, turnover, trades, positions, fault "
                "FROM trials JOIN studies USING (study) WHERE as_of LIKE ? ORDER BY number",
                (f"{as_of}%",),
            ).fetchall()
    except sqlite3.Error:  # not there yet, or written at this moment
        return []


def run_until(home: Path, is_far_enough: Callable[[], bool]) -> None:
    """Start the backtest with its searches, and kill it as soon as it is far enough."""
    with subprocess.Popen(
        COMMAND, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not is_far_enough():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()


COMMAND = [HFTCL, "backtest", "--search", "--trials", str(TRIALS), "--from", FROM, "--to", TO, "--json"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], int, int]:
    """Return a home whose backtest was killed in its trainings and in its searches, the report of the third run, and
    how many trainings and trials were kept before it.
    """
    home = tmp_path_factory.mktemp("killed")
    (home / "hftcl.toml").write_text(TOML)
    give_calendar(home)
    trials, folder = home / "backtest" / "search.sqlite", home / "backtest"
    run_until(home, lambda: bool(list(folder.glob("*/*.onnx"))))
    kept = len(list(folder.glob("*/*.onnx")))
    run_until(home, lambda: bool(read_trials(trials, "2025")))
    tried = len(read_trials(trials, "2025"))
    return home, answer_here(home, *COMMAND[1:]), kept, tried


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchReport]:
    """Return what `hftcl search` finds at the end of the second week, in a home of its own."""
    home = tmp_path_factory.mktemp("searched")
    loop = ContinuousLearning(build_settings(home), clock=lambda: NOW, on_event=ignore)
    return home, loop.search(trials=TRIALS, as_of=SECOND_WEEK)


def test_a_backtest_that_was_killed_goes_on_and_its_week_is_what_the_retrain_trains_to_the_bit(
    killed: tuple[Path, dict[str, Any], int, int], by_hand: tuple[Path, RetrainReport]
) -> None:
    home, report, kept, _ = killed
    other, done = by_hand
    assert report["resumed"] >= kept >= 1
    files = [path for path in (home / "backtest").glob("*/20250801_*-*.onnx") if "fold" not in path.name]
    metas = [artifact.load(path).meta for path in files]
    (ours,) = [meta for meta in metas if (meta.horizon_minutes, meta.entry_quantile) == (30, 0.9)]
    theirs = artifact.load(Registry(other).locate_onnx(str(done.model_id))).meta
    assert ours.ticker_models == ("AAPL", "AMD")
    for name in ("ticker_models", "canary_rows", "canary_predictions", "threshold", "data_digest"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert done.challenger is not None
    attempt = report["attempts"][0]
    assert attempt["sharpe"] == done.challenger.sharpe


def test_a_search_inside_a_week_is_the_command_s_own_to_the_bit_and_goes_on_after_a_kill(
    killed: tuple[Path, dict[str, Any], int, int], searched: tuple[Path, SearchReport]
) -> None:
    home, report, _, tried = killed
    other, found = searched
    ours = read_trials(home / "backtest" / "search.sqlite", SECOND_WEEK)
    assert len(ours) == TRIALS
    assert ours == read_trials(other / "search.sqlite", SECOND_WEEK)
    assert report["search"]["resumed"] >= tried >= 1
    week = report["search"]["weeks"][1]
    assert found.winner is not None
    assert found.exam is not None
    assert (week["changes"], week["inner_sharpe"]) == (found.changes, found.winner.inner_sharpe)
    assert week["exam_sharpe"] == found.exam.sharpe is not None


def test_a_trial_of_a_model_a_ticker_is_another_trial_than_one_of_a_model_for_all(
    searched: tuple[Path, SearchReport], tmp_path: Path
) -> None:
    home, _ = searched
    loop = ContinuousLearning(build_settings(tmp_path, per="watchlist"), clock=lambda: NOW, on_event=ignore)
    loop.search(trials=1, as_of=SECOND_WEEK)
    (shared,) = read_trials(tmp_path / "search.sqlite", SECOND_WEEK)
    alone = read_trials(home / "search.sqlite", SECOND_WEEK)[0]
    assert shared[1:3] == alone[1:3], "the same settings"
    assert shared[3] != alone[3], "of another policy"
    assert shared[5] != alone[5], "which earned something else"
