"""`hftcl trade --replay`: the very bot over stored bars, with the exam's positions, beside the live bot's files."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hftcl.document import build_document
from hftcl.errors import LockHeldError, ModelNotFoundError, NoDataError, UsageError
from hftcl.events import Event, Level
from hftcl.exam.simulation import compute_accounts, simulate
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import SPLIT, FillRecord
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Settings
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.replay import replay
from hftcl.trading.run.replay_report import ReplayReport, Tally, build_report
from hftcl.trading.run.replay_window import ReplayWindow, parse_span
from tests import shared_data
from tests.in_process import call
from tests.installed import HFTCL, PATIENCE_S, give_calendar, run
from tests.loop_cases import SMALL_TOML
from tests.trading.bot_stand import (
    DAY,
    HALF_DAY,
    TICKERS,
    archived,
    market_bars,
    settings_of,
    some_minutes,
    stand,
)

NOW = datetime(2025, 7, 20, tzinfo=UTC)
SPAN = f"{HALF_DAY}..{HALF_DAY}"
TOML = SMALL_TOML.replace('["AAPL", "AMD"]', str(list(TICKERS)).replace("'", '"'))
"""Of the tickers that the model of `archived` was trained on."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "hftcl.toml").write_text(TOML)
    archived(folder)
    return folder


def replayed(
    settings: Settings, span: str = SPAN, heard: Callable[[Event], None] = lambda _: None, now: datetime = NOW
) -> ReplayReport:
    return replay(
        settings,
        span,
        now=now,
        stopwatch=time.perf_counter,
        controls=Controls(),
        on_event=heard,
        on_alert=lambda _: None,
    )


@pytest.fixture(scope="module")
def report(home: Path) -> dict[str, Any]:
    """Return what the command prints for a half day, and for the holiday and the weekend after it."""
    (home / "ledger.sqlite").write_bytes(b"the live bot's, not to be touched")
    done = call(home, "trade", "--replay", f"{HALF_DAY}..2025-07-06", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_exam_and_bot_agree_on_every_position(home: Path, report: dict[str, Any]) -> None:
    exam = call(home, "exam", report["model_id"], "--from", str(HALF_DAY), "--to", "2025-07-06", "--json")
    examined = json.loads(exam.stdout)
    assert report["positions_sha256"] == examined["positions_sha256"]
    assert (report["from"], report["to"], report["sessions"]) == (str(HALF_DAY), str(HALF_DAY), 1)
    assert report["tickers"] == ["AAPL", "AMD", "TSLA"]
    assert report["pnl_by_session"].keys() == examined["pnl_by_session"].keys()
    apart = [report["pnl_by_session"][day] - net for day, net in examined["pnl_by_session"].items()]
    assert max(map(abs, apart)) < 3e-4, "whole shares and held quantities cost a few basis points of capital at most"


def test_both_commands_print_the_hash_for_a_person_too(home: Path, report: dict[str, Any]) -> None:
    exam = call(home, "exam", report["model_id"], "--from", str(HALF_DAY), "--to", "2025-07-06")
    assert exam.stdout.splitlines()[-1] == f"positions_sha256 {report['positions_sha256']}"


def test_a_rehearsal_is_the_bot_at_a_strict_broker_and_what_it_would_tell_is_in_document_and_exit_status(
    tmp_path: Path, report: dict[str, Any]
) -> None:
    assert (report["broker"], report["halted"], report["alerts"], report["apart"]) == ("paper", None, [], {})
    rules = """
[strict_paper]
weather = "storm"
hard_to_borrow = ["AMD"]
[risk]
max_daily_loss = 0.00001
"""
    (tmp_path / "hftcl.toml").write_text(TOML + rules)
    archived(tmp_path)
    done = call(tmp_path, "trade", "--rehearse", SPAN, "--json")
    assert not [held for held in Path("/proc/self/fd").glob("*") if str(tmp_path) in os.path.realpath(held)]
    found = json.loads(done.stdout)
    assert (found["broker"], found["apart"]) == ("strict-paper", {}), "flat, and the ledger knows it, in a storm too"
    assert found["fills"] > 0
    assert found["halted"].startswith("daily_loss")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("hftcl: ")]
    assert line.startswith("hftcl: The replay was halted, and opened nothing more: the session has lost ")
    assert line.endswith(" allowed. Mend that, and replay again.")
    assert [told["subject"] for told in found["alerts"] if told["kind"] == "halted"] == [
        "trading is halted: daily_loss"
    ]
    assert done.returncode == 1, "a script sees that a live run would have stopped"
    assert not (tmp_path / "ledger.sqlite").exists()


def test_the_document_holds_the_fields_of_the_contract(home: Path, report: dict[str, Any]) -> None:
    assert report["decisions"] == 3 * 210
    assert report["decisions"] == sum(report["codes"].values())
    assert report["orders"] > 20
    assert report["fills"] >= report["orders"] - 3
    assert report["reloads"] == 0
    assert report["refusals"] == {}
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert report["unseen"] is True
    assert report["pnl"] == pytest.approx(sum(report["pnl_by_session"].values()), abs=1e-15)
    with LedgerReader(home / "replay" / "ledger.sqlite") as ledger:
        assert ledger.open_meta()["mode"] == "replay"
        assert ledger.read_orders().height == report["orders"]
        assert ledger.read_fills().height == report["fills"]
        assert ledger.read_decisions().height == report["decisions"]


def test_a_replay_across_a_split_counts_no_more_fills_than_its_orders_had(tmp_path: Path) -> None:
    """What a split makes of the shares is booked as two rows of fills, and nothing was traded."""
    archived(tmp_path)
    bot, tally = stand(tmp_path, first=110), Tally()
    bot.run(DAY, some_minutes(110, 3))
    traded, at = bot.ledger.read_fills(), bot.clock.now()
    about = {"book": "production", "ts": at, "ticker": "AMD", "model_id": None, "commission": 0.0, "filled_at": at}
    split = [
        FillRecord(**about, fill_id=f"{SPLIT}-{n}", client_order_id=SPLIT, quantity=n, price=9.0, reference_price=9.0)  # type: ignore[arg-type]
        for n in (-1.0, 2.0)
    ]
    bot.ledger.write_outcomes(fills=split)
    tally.count_session(bot.ledger, at - timedelta(hours=8), at)
    window = ReplayWindow(bars=bot.bars, days=(DAY,), tickers=TICKERS, left_out={}, context_left_out={}, findings=())
    found = build_report(bot.loop, window, SyntheticSource(bot.settings), tally, unseen=True, seconds=1.0)
    assert found.fills == traded.height > 0
    assert found.apart == {"AMD": -1.0}, "the paper broker heard of no split"
    assert found.shortfall is not None
    assert "the broker paper than in its ledger: AMD -1." in found.shortfall
    bot.close()


def test_the_live_bot_s_files_are_not_touched(home: Path, report: dict[str, Any]) -> None:
    assert (home / "ledger.sqlite").read_bytes() == b"the live bot's, not to be touched"
    assert not (home / "paper.sqlite").exists()
    assert not (home / "bars").exists(), "what the cache lacks is fetched and not kept, as in an exam"


def test_a_second_replay_begins_anew_and_finds_the_same(home: Path, report: dict[str, Any]) -> None:
    again = build_document(replayed(settings_of(home)))
    passing = {"latency_ms", "seconds"}
    assert {name: again[name] for name in again if name not in passing} == {
        name: report[name] for name in report if name not in passing
    }


def test_sessions_that_the_model_was_trained_on_are_replayed_and_called_seen(tmp_path: Path) -> None:
    archived(tmp_path, label_end=datetime(2025, 7, 2, 20, 0, tzinfo=UTC))
    heard: list[Event] = []
    found = replayed(settings_of(tmp_path), heard=heard.append)
    assert found.unseen is False, "July 2 was the last label, and July 3 is the embargo"
    assert any("trained on" in event.text for event in heard if event.level is Level.WARNING)


@pytest.mark.parametrize(
    ("span", "error", "match"),
    [
        ("nonsense", UsageError, "is no span of days"),
        ("2025-06-06..2025-06-02", UsageError, "Exchange them"),
        ("2025-07-04", NoDataError, "no session from 2025-07-04"),
        ("2026-03-02..2026-03-06", NoDataError, "none after 2025-07-18"),
    ],
)
def test_what_cannot_be_replayed_is_said(home: Path, span: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        replayed(settings_of(home), span)


def test_one_date_is_a_span_of_one_day() -> None:
    assert parse_span("2025-06-02") == (date(2025, 6, 2), date(2025, 6, 2))


def test_without_a_model_there_is_nothing_to_replay_with(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"trained_stock_model\.onnx is missing"):
        replayed(settings_of(tmp_path))


def test_a_model_of_real_bars_is_not_replayed_on_the_synthetic_market(tmp_path: Path) -> None:
    archived(tmp_path, synthetic=False, source="files")
    with pytest.raises(ModelNotFoundError, match="trained on real bars, and these are synthetic ones"):
        replayed(settings_of(tmp_path))


def test_a_second_replay_at_the_same_time_is_refused_with_75(home: Path) -> None:
    give_calendar(home)
    running = subprocess.Popen(
        [HFTCL, "trade", "--replay", f"{HALF_DAY}..2025-07-18", "--json"],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        while not running.stderr.readline().startswith("trade: 0 of"):
            assert running.poll() is None
        running.send_signal(signal.SIGSTOP)  # so that it is at work however long the others take
        with pytest.raises(LockHeldError, match=f"Another replay .* {running.pid}"):
            replayed(settings_of(home))
        status = json.loads(run(home, "trade", "--status", "--json").stdout)
        assert (status["running"], status["mode"], status["pid"]) == (True, "replay", running.pid)
        # SIGHUP asks for a look at the model and ends nothing: of two that wait the kernel hands it over first, and
        # the status is that of the other
        running.send_signal(signal.SIGHUP)
        running.send_signal(signal.SIGTERM)
        running.send_signal(signal.SIGCONT)
        assert running.wait(timeout=PATIENCE_S) == 143
    finally:
        running.kill()
        running.communicate(timeout=PATIENCE_S)


# ---- the account of a replay and of an exam --------------------------------------------------------------------------


def files_home(folder: Path, bars: pl.DataFrame) -> Settings:
    """Return a home whose source is a folder of files with these bars, and a model that serves there."""
    (folder / "data").mkdir()
    for (ticker,), part in bars.partition_by("ticker", as_dict=True).items():
        part.select("ts", "open", "high", "low", "close", "volume").write_parquet(folder / "data" / f"{ticker}.parquet")
    settings = settings_of(
        folder,
        files={"folder": str(folder / "data")},
        trade={"fractional": True},
        paper={"max_volume_share": 1.0, "half_spread_bps": 0.0, "slippage_bps": 0.0},
        risk={"max_gross": 10.0, "max_net": 10.0, "price_collar": 1.0, "max_daily_loss": 1.0},
        strategy={"cost_bps": 0.0},
    )
    archived(folder, synthetic=False, source="files")
    return replace(settings, market=replace(settings.market, source="files"))


def without_gaps(bars: pl.DataFrame) -> pl.DataFrame:
    """Return bars of every minute, each of which opens where the last one closed: what is ordered fills as priced."""
    before = pl.col("close").shift(1).over("ticker", "session").fill_null(pl.col("open"))
    flat = bars.with_columns(open=before)
    return flat.with_columns(
        high=pl.max_horizontal("high", "open"), low=pl.min_horizontal("low", "open"), volume=pl.lit(1e9)
    )


def test_without_friction_a_replay_earns_what_its_shares_earn_and_the_exam_up_to_drift(tmp_path: Path) -> None:
    """An exam holds a fraction of capital, worth the same at each open; a bot holds shares, whose worth drifts.

    So the two are compared on what differs: the shares' own P&L, by a second computation, to 1e-9 of capital; the
    exam's to what drift can be, a thousandth of what was held.
    """
    bars = without_gaps(market_bars(date(2025, 6, 25), HALF_DAY))
    settings = files_home(tmp_path, bars)
    found = replayed(settings)
    with LedgerReader(tmp_path / "replay" / "ledger.sqlite") as ledger:
        fills, decisions = ledger.read_fills(), ledger.read_decisions().drop_nulls("target")
    day = bars.filter(pl.col("session") == HALF_DAY)
    held = (
        day.join(fills.group_by("ticker", "ts").agg(pl.col("quantity").sum()), on=["ticker", "ts"], how="left")
        .sort("ticker", "ts")
        .with_columns(shares=pl.col("quantity").fill_null(0).cum_sum().over("ticker"))
        .with_columns(after=pl.col("open").shift(-1).over("ticker").fill_null(pl.col("close")))
    )
    own = float((held["shares"] * (held["after"] - held["open"])).sum()) / 100_000
    assert found.pnl == pytest.approx(own, abs=1e-9)
    assert found.pnl_by_session == {str(HALF_DAY): found.pnl}
    positions = decisions.select("ticker", "ts", pl.col("target").alias("position"))
    exam = simulate(day, positions, cost_bps=0.0)
    booked = compute_accounts(day, positions, cost_bps=0.0)
    gross = float(booked["held"].abs().to_numpy().max())
    assert gross > 0.1
    assert abs(found.pnl - float(exam.net[0])) < 1e-3 * gross
    assert np.sign(found.pnl) == np.sign(exam.net[0])


@shared_data.needs_real_bars
@pytest.mark.slow
def test_on_real_bars_exam_and_bot_agree_too(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(
        f"""[market]
source = "files"
watchlist = ["AAPL", "AMD", "NVDA", "TSLA"]
lookback_days = 46
[files]
folder = "{shared_data.REAL_BARS}"
[exam]
sessions = 10
[model]
n_estimators = 24
[promote]
policy = "seed"
min_sharpe = -100
"""
    )
    trained = call(tmp_path, "retrain", "--force", "--json", "--as-of", "2025-05-30")
    assert json.loads(trained.stdout)["outcome"] == "deployed", trained.stderr
    bot = json.loads(call(tmp_path, "trade", "--replay", "2025-06-02..2025-06-06", "--json").stdout)
    exam = ("exam", bot["model_id"], "--from", "2025-06-02", "--to", "2025-06-06", "--json")
    examined = json.loads(call(tmp_path, *exam).stdout)
    assert bot["positions_sha256"] == examined["positions_sha256"]
    assert bot["unseen"] is True
    assert bot["orders"] > 0
