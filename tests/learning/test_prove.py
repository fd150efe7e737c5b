"""The look-ahead proof: it holds on our features, and it can fail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive.artifact import list_our_features
from hftcl.errors import NoDataError
from hftcl.events import ignore
from hftcl.learning import dataset
from hftcl.learning.reports import ProofReport
from hftcl.learning.stories import prove as proof
from hftcl.learning.tampering import TAMPERINGS
from hftcl.market.window import open_market
from hftcl.model import by_ticker, grid
from hftcl.model.by_ticker import add_features_by_ticker
from hftcl.model.features import FEATURES, Feature
from hftcl.model.grid import MinuteGrid
from hftcl.model.target import evaluate_target
from tests.loop_cases import SHORT_DAY, first_retrain, small
from tests.trained import Homes

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)


def proved(home: Path, monkeypatch: pytest.MonkeyPatch, feature: Feature | None = None) -> ProofReport:
    """Prove on eight sessions; by this seed the bot's way is compared on the short one of them."""
    if feature is not None:
        table = (feature, *FEATURES[1:])
        monkeypatch.setattr(dataset, "list_our_features", lambda _settings: replace(list_our_features(), table=table))
    settings = small(home, market={"watchlist": ("AAPL",), "lookback_days": 10})
    report = ContinuousLearning(settings, clock=lambda: NOW).prove(cases=2, seed=2, as_of=SHORT_DAY.isoformat())
    assert report.streamed_bars == 210
    return report


def test_nothing_looks_ahead_and_the_planted_leak_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = proved(tmp_path, monkeypatch)
    assert report.proved
    assert (report.differences, report.streaming_differences, report.label_overlap) == (0, 0, 0)
    assert report.planted_leak_caught
    assert report.values_compared > 3_000
    assert list(tmp_path.iterdir()) == [], "a proof changes nothing"


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("close").shift(-1) / pl.col("close") - 1,
        pytest.param(pl.col("close") / pl.col("close").mean() - 1, marks=pytest.mark.slow),
        pytest.param(pl.col("close").backward_fill() / pl.col("close").last() - 1, marks=pytest.mark.slow),
    ],
    ids=["the next bar", "the mean of the whole session", "the session's last bar"],
)
def test_a_feature_that_looks_ahead_is_found(expr: pl.Expr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FEATURES[0]
    cheat = Feature(name=original.name, group="x", expr=expr, lookback=0, formula="", reason="")
    report = proved(tmp_path, monkeypatch, cheat)
    assert not report.proved
    assert report.differences > 0
    assert report.streaming_differences > 0


def plant_in_rows(monkeypatch: pytest.MonkeyPatch, *changes: pl.Expr) -> None:
    """Change the rows that train after they were computed, as a fault of their maker would."""

    def compute(*args: Any, **options: Any) -> pl.DataFrame:
        return add_features_by_ticker(*args, **options).with_columns(changes)

    monkeypatch.setattr(dataset, "add_features_by_ticker", compute)


def test_a_target_planted_in_a_feature_of_the_rows_that_train_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_in_rows(monkeypatch, pl.col("target").fill_null(0).alias("ret_1"))
    report = proved(tmp_path, monkeypatch)
    assert not report.proved
    assert report.frame_differences > 0
    assert report.differences == 0, "the features as the bot computes them are honest"


def test_a_label_that_ends_later_than_it_says_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(grid: MinuteGrid, horizon_minutes: int) -> pl.DataFrame:
        return evaluate_target(grid, horizon_minutes).with_columns(pl.col("label_end") - pl.duration(minutes=20))

    for module in (by_ticker, proof):  # the rows that train, and those that are computed once more
        monkeypatch.setattr(module, "evaluate_target", evaluate)
    report = proved(tmp_path, monkeypatch)
    assert not report.proved
    assert report.label_differences > 0
    assert (report.differences, report.frame_differences) == (0, 0)


def test_a_grid_that_looks_ahead_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = grid.add_windows

    def add_windows(frame: pl.DataFrame, window: grid.Window) -> pl.DataFrame:
        return honest(frame, window).with_columns(window(pl.col("r").shift(-1)))

    monkeypatch.setattr(grid, "add_windows", add_windows)  # of the rows that train, of the proof's, and of the bot's
    report = proved(tmp_path, monkeypatch)
    assert not report.proved
    assert report.differences > 0
    assert report.frame_differences > 0


@pytest.mark.parametrize(
    ("built", "doubt"),
    [
        (pl.col("close").shift(-1), "a close foretells the next bar"),
        (pl.col("close").rolling_mean(3, center=True), "one minute's return foretells the next one's"),
    ],
    ids=["the next close", "a centred mean"],
)
def test_bars_that_were_built_with_the_future_are_too_good_to_be_true(
    built: pl.Expr, doubt: str, tmp_path: Path
) -> None:
    settings = small(tmp_path, market={"lookback_days": 20})
    window = dataset.open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore)
    data = replace(window.assemble(), synthetic=False)
    assert proof.look_for_miracles(data, None, settings).doubts == ()
    close = built.over("ticker", "session").fill_null(pl.col("close")).alias("close")
    faulty = replace(data, frame=data.frame.with_columns(close))
    assert doubt in "; ".join(proof.look_for_miracles(faulty, None, settings).doubts)


@pytest.mark.parametrize(
    ("now", "delayed", "doubted"),
    [(30.0, 1.0, True), (30.0, -5.0, True), (30.0, 20.0, False), (8.0, 0.0, False), (None, None, False)],
)
def test_an_edge_that_a_minute_kills_is_too_good_to_be_true(
    now: float | None, delayed: float | None, doubted: bool
) -> None:
    assert (proof.find_delay_doubt(now, delayed) is not None) is doubted


def test_the_serving_models_edge_outlives_a_minute(homes: Homes, tmp_path: Path) -> None:
    home = tmp_path / "home"
    homes.copy(home, first_retrain, promote={"min_sharpe": -100})
    report = ContinuousLearning(small(home), clock=lambda: NOW + timedelta(days=21)).prove(cases=1)
    assert report.model_id == "20260109_070000"
    assert report.gross_sharpe is not None
    assert report.gross_sharpe_a_minute_later is not None
    assert report.gross_sharpe > 12
    assert report.gross_sharpe_a_minute_later > 0.5 * report.gross_sharpe
    assert report.proved


def test_each_replacement_leaves_no_later_bar_as_it_was(tmp_path: Path) -> None:
    settings = small(tmp_path)
    source, calendar = open_market(settings)
    from hftcl.market.bars import BAR_SCHEMA, clean

    sessions = calendar.list_sessions(datetime(2026, 1, 5, tzinfo=UTC).date(), datetime(2026, 1, 5, tzinfo=UTC).date())
    raw = source.minutes("AAPL", sessions["session"][0], sessions["session"][0])
    bars, _ = clean(raw, sessions, ticker="AAPL")
    random = np.random.default_rng(0)
    for name, later in TAMPERINGS.items():
        tampered = later(bars, random, calendar).select(BAR_SCHEMA.names())
        kept = bars.join(tampered, on=["ticker", "ts", "open", "high", "low", "close"], how="semi")
        assert kept.height == 0, name


def test_too_few_sessions_prove_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="needs 7"):
        ContinuousLearning(small(tmp_path, market={"lookback_days": 5}), clock=lambda: NOW).prove(cases=1)
