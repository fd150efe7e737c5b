"""What a minute costs the bot in a replay, what a prediction costs, and whether its memory grows. Figures, not limits
of time: those depend on the machine.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import polars as pl
import pytest

from hftcl.archive.artifact import load
from hftcl.market.bars import MINUTE, NO_BARS
from hftcl.market.hours import Hours, find_hours
from hftcl.model.families.forest import Forest
from hftcl.model.features import FEATURE_NAMES, features
from hftcl.model.serving import Predictor
from hftcl.model.target import compute_targets
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.intake import Intake, RawBar
from hftcl.trading.feeds.replay import StoredFeed
from tests.dashboard.served import serving
from tests.trading.bot_stand import CALENDAR, TRAINED, Stand, archived, market_bars, meta_of, model_file, stand

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.bench, pytest.mark.slow]
COME_LATE, SENT_AGAIN = 0.02, 0.05
"""Shares of the tickers, a minute: chosen, many more than a vendor sends late on most days."""
MADE_UP = 500
"""Tickers of which a market is made up: a second each takes as long as the minutes of a session of all of them."""
Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line of figures whatever pytest captures."""

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return line


def named(count: int) -> tuple[str, ...]:
    return tuple(f"T{number:03d}" for number in range(count))


class Moment(float):
    """A moment of the wall clock that knows how much CPU time the process had taken, and what lies between two."""

    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        moment = cls(perf_counter())
        moment.cpu = process_time()
        return moment

    def __sub__(self, earlier: float) -> "Moment":
        between = Moment(float(self) - float(earlier))
        between.cpu = self.cpu - earlier.cpu if isinstance(earlier, Moment) else 0.0
        return between


@dataclass
class LateFeed:
    """Of each minute some tickers' bars come a minute late, and others come again with another volume and price."""

    inner: StoredFeed
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    name: str = "late"
    held_back: pl.DataFrame | None = None
    before: pl.DataFrame | None = None
    late: int = 0

    def begin(self, hours: Hours, now: datetime) -> Morning:
        return self.inner.begin(hours, now)

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        bars = self.inner.minute(minute, now).bars
        drawn = self.chance.random(bars.height)
        drawn[0] = 0.0  # one is late in every minute
        corrected = [] if self.held_back is None else [self.held_back]
        if self.before is not None:
            again = self.before.filter(self.chance.random(self.before.height) < SENT_AGAIN)
            corrected.append(again.with_columns(pl.col("volume") + 1.0, pl.col("close") * 1.0001))
        self.held_back, self.before = bars.filter(drawn < COME_LATE), bars.filter(drawn >= COME_LATE)
        self.late += self.held_back.height
        return Delivery(minute=minute, bars=self.before, corrected=pl.concat(corrected) if corrected else None)

    def problem(self) -> str:
        return ""

    def close(self) -> None:
        self.inner.close()


def make_up_bars(first: date, last: date, tickers: int) -> pl.DataFrame:
    """Return bars of so many tickers; those beyond MADE_UP have the bars of one of these under another name."""
    names = named(tickers)
    made = market_bars(first, last, names[:MADE_UP])
    others = [
        made.filter(pl.col("ticker") == names[nth % MADE_UP]).with_columns(pl.lit(name).alias("ticker"))
        for nth, name in enumerate(names[MADE_UP:], MADE_UP)
    ]
    return pl.concat([made, *others]).sort("ticker", "ts") if others else made


def run_day(home: Path, tickers: int, *, is_late: bool = False) -> tuple[Stand, int]:
    """Replay a session at full load in `home`; return the bot, and how many bars came late."""
    day = date(2025, 6, 2)
    archived(home, threshold=0.0)
    bars = make_up_bars(CALENDAR.find_previous_session(day, 5), day, tickers)
    rules: dict[str, dict[str, object]] = {
        "market": {"watchlist": named(tickers)},
        "risk": {"max_gross": 5.0, "max_net": 5.0},
        "paper": {"cash": 1e9, "max_volume_share": 1.0},
    }
    feed = LateFeed(StoredFeed(bars, named(tickers)))
    bot = stand(home, bars=bars, sections=rules, feed=feed if is_late else None)
    bot.loop.bot.production.desk.stopwatch = Moment.now
    bot.run(day)
    return bot, feed.late


@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "late bars"])
@pytest.mark.parametrize(("tickers", "target_ms"), [(20, 20), (500, 120)])
def test_from_the_bar_to_the_order(tmp_path: Path, say: Say, tickers: int, target_ms: int, *, is_late: bool) -> None:
    """At full load: each prediction is a signal, and shares are cheap enough that every change of a target trades."""
    bot, late = run_day(tmp_path, tickers, is_late=is_late)
    orders = np.array([done.ordered for done in bot.minutes])
    for name, took in (
        ("by the clock", [done.latency_s for done in bot.minutes]),
        ("of CPU", [getattr(done.latency_s, "cpu", 0.0) for done in bot.minutes]),
    ):
        ms = 1000 * np.array(took)
        p50, p99 = np.percentile(ms, [50, 99])
        say(
            f"{tickers} tickers, {late} late bars, {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms (target "
            f"{target_ms}), last hour p50 {np.percentile(ms[-60:], 50):.1f} ms; {orders.mean():.0f} orders a minute, "
            f"at most {orders.max()}"
        )
    assert bot.ledger.read_decisions().height == 390 * tickers
    assert orders.mean() > tickers / 10
    bot.close()


@pytest.mark.parametrize("tickers", [500, 5000])
def test_to_take_in_the_rows_of_a_minute(say: Say, tickers: int) -> None:
    """What a vendor sends of each ticker in a minute, and what 20 tickers whose rows are at odds add."""
    hours = find_hours(CALENDAR, date(2025, 6, 2), extended_hours=False)
    minutes = hours.list_minutes(hours.begins)
    taken = Intake(hours, named(tickers), NO_BARS)

    def take(minute: datetime, *stamps: datetime, odd: int = 0) -> float:
        rows: list[RawBar] = [(name, ts, 100.0, 101.0, 99.0, 100.0, 5.0) for name in named(tickers) for ts in stamps]
        rows += [(name, minute, 100.0, 101.0, 99.0, 100.5, 5.0) for name in named(odd)]
        began = process_time()
        assert taken.deliver(rows, minute, minute + 1.05 * MINUTE).bars.height == tickers
        return 1000 * (process_time() - began)

    opened = take(minutes[0], minutes[0] - MINUTE, minutes[0])
    usual = float(np.median([take(minute, minute) for minute in minutes[1:21]]))
    twice = float(np.median([take(minute, minute, minute) for minute in minutes[21:41]]))
    asked = float(np.median([take(minutes[n], *minutes[n - 5 : n + 1]) for n in range(41, 61)]))
    odd = float(np.median([take(minute, minute, odd=20) for minute in minutes[61:71]]))
    say(
        f"{tickers} tickers, of CPU: a row each {usual:.1f} ms; with one of before the open {opened:.1f} ms; each row "
        f"twice {twice:.1f} ms; with the five minutes before {asked:.1f} ms; 20 tickers at odds {odd:.1f} ms"
    )


def test_from_the_bar_to_the_order_beside_twenty_tabs(tmp_path: Path, say: Say) -> None:
    """Alone and beside a dashboard with 20 tabs, in turns; minutes follow each other without a pause."""
    for turn in range(4):
        home, tabs = tmp_path / str(turn), 20 * (turn % 2)
        home.mkdir()
        with contextlib.ExitStack() as stack:
            if tabs:
                page = stack.enter_context(serving(home))
                command = [sys.executable, "-m", "tests.benchmarks.tabs", str(page.port), page.cookie, str(tabs)]
                watching = stack.enter_context(subprocess.Popen(command, cwd=ROOT))
                stack.callback(watching.kill)
            bot, _ = run_day(home, 20)
            ms = 1000 * np.array([done.latency_s for done in bot.minutes])
            bot.close()
        p50, p99 = np.percentile(ms, [50, 99])
        say(f"20 tickers beside {tabs} tabs: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def test_one_row_against_scikit_learn(tmp_path: Path, say: Say) -> None:
    """The same forest, 200 trees of depth 12, by onnxruntime and by scikit-learn's own predict."""
    bars = market_bars(date(2025, 5, 1), date(2025, 5, 20))
    rows = pl.concat([features(bars), compute_targets(bars, 30)], how="horizontal").drop_nulls()
    X = np.ascontiguousarray(rows.select(FEATURE_NAMES).to_numpy(), dtype=np.float32)
    params = {**Forest().parameters(), "n_estimators": 200, "max_depth": 12}
    fitted = Forest().fit(X, rows["target"].to_numpy(), params, seed=1, jobs=1, on_step=lambda done, total: None)
    ours = Predictor(fitted.onnx, X.shape[1])

    def best_ms(predict: Callable[[np.ndarray], object], count: int) -> float:
        times = []
        for place in range(count):
            row = X[place : place + 1]
            began = perf_counter()
            predict(row)
            times.append(perf_counter() - began)
        return 1000 * float(np.median(times))

    onnx, sklearn = best_ms(ours.predict, 2000), best_ms(fitted.estimator.predict, 100)
    say(f"one row: onnxruntime {onnx:.4f} ms, scikit-learn {sklearn:.2f} ms, {sklearn / onnx:.0f} times")
    assert np.allclose(ours.predict(X[:500]), fitted.estimator.predict(X[:500]), atol=1e-5)
    assert sklearn / onnx > 100


def test_memory_stays_flat_over_two_hundred_sessions(tmp_path: Path, say: Say) -> None:
    archived(tmp_path, TRAINED)
    command = [sys.executable, "-m", "tests.benchmarks.trading_memory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    held = ", ".join(f"{each:.0f}" for each in found["held"])
    say(f"resident MB after each 20 of 200 sessions: {held}")
    assert found["last"].startswith("2025-10-")
    assert found["held"][-1] < found["held"][0] + 20
    assert max(found["held"]) < 400


def test_a_reload(tmp_path: Path, say: Say) -> None:
    """Load, verify and swap: what the pause between two minutes must hold."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model_file("20250531_120000"))
    times = []
    for _ in range(20):
        began = perf_counter()
        load(path)
        times.append(perf_counter() - began)
    say(f"load and verify a model of {path.stat().st_size / 1e6:.1f} MB: {1000 * float(np.median(times)):.0f} ms")
    assert meta_of("20250531_120000").model_id == load(path).meta.model_id
