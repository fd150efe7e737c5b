"""Does searching fool anyone, and does it find what is there? Many small markets, the real search and retrain on each.

Run it with: pytest -m bench -s tests/benchmarks/test_search.py
"""

import sys
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.registry import Registry
from hftcl.exam.metrics import sharpe
from hftcl.learning.dataset import add_features
from hftcl.learning.score import examine
from hftcl.learning.search.space import apply_choice
from hftcl.market.bars import TS, clean
from hftcl.market.sessions import Calendar
from hftcl.market.window import open_market
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.settings import Settings

MARKETS = 30
TRIALS = 24
DAY, NOW = "2022-06-30", datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
FIRST_MONTH = (2020, 4)
"""Of the markets with an edge: the first month of a synthetic market with 60 days and a warm-up before its end.

Market k is examined at the end of month k from here, with seed EDGE_SEED + k: 30 markets in one month share what luck
that month has. Seeds and months were written down before the first of them was run.
"""
EDGE_SEED = 6000
FRESH_SESSIONS = 1000
CALENDAR = Calendar("XNYS")
TICKERS = ("AAPL", "AMD")
HORIZONS = (5, 10, 15, 30, 60, 120)
VALUES: dict[str, tuple[str | int | float | bool, ...]] = {
    "model.family": ("ridge",),  # what a family costs in time tells nothing of the luck of a search
    "model.horizon_minutes": HORIZONS,
}


def settings_of(home: Path, seed: int, *, edge: float, cost_bps: float, lookback_days: int = 60) -> Settings:
    settings = Settings()
    return replace(
        settings,
        paths=replace(settings.paths, home=str(home)),
        market=replace(settings.market, watchlist=TICKERS, lookback_days=lookback_days),
        synthetic=replace(settings.synthetic, edge=edge, seed=seed),
        strategy=replace(settings.strategy, cost_bps=cost_bps),
        model=replace(settings.model, family="ridge"),
        search=replace(settings.search, trials=TRIALS, values=VALUES, seed=seed),
    )


def loop_of(settings: Settings) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: NOW)


# --- without an edge --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """One market without edge: what the searched and an untried candidate came to, and what the search said."""

    deployed: bool
    live: bool
    untried_deployed: bool
    inner: float
    luck: float
    exam: float


def search_noise(home: Path, market: int) -> Noise:
    """Search a market without edge and cost; adopt the winner, retrain. Beside it, one candidate that nobody chose."""
    settings = settings_of(home / "searched", 3000 + market, edge=0.0, cost_bps=0.0)
    found = loop_of(settings).search(as_of=DAY)
    assert found.winner is not None
    assert found.exam is not None
    adopted = apply_choice(settings, found.winner.settings)
    searched = loop_of(adopted).retrain(force=True, as_of=DAY)
    untried = replace(settings, paths=replace(settings.paths, home=str(home / "untried")))
    other = loop_of(untried).retrain(force=True, as_of=DAY)
    return Noise(
        searched.outcome == "deployed",
        searched.edge == "live",
        other.outcome == "deployed",
        found.winner.inner_sharpe,
        found.best_of_worthless or 0.0,
        found.exam.sharpe or 0.0,
    )


@pytest.mark.bench
def test_a_search_of_noise_trades_nothing_and_deploys_no_more_than_one_candidate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    markets = [search_noise(tmp_path / str(market), market) for market in range(MARKETS)]
    line, deployed, untried, live = describe_noise(markets)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
    assert live <= 0.10
    # 0.45 is what one look at a worthless candidate comes to: STATISTICS, section 1
    assert deployed <= max(untried, 0.45) + 2 * np.sqrt(0.45 * 0.55 / MARKETS)


def describe_noise(markets: list[Noise]) -> tuple[str, float, float, float]:
    """Return a line, and the shares that deployed after a search and without one, and that are live."""
    deployed, untried, live = (
        float(np.mean([getattr(market, name) for market in markets]))
        for name in ("deployed", "untried_deployed", "live")
    )
    inner, luck, exam = (
        float(np.mean([getattr(market, name) for market in markets])) for name in ("inner", "luck", "exam")
    )
    return (
        f"{len(markets)} markets without edge, {TRIALS} trials each: deployed {deployed:.2f} (one untried candidate "
        f"{untried:.2f}), live {live:.2f}; the winner showed {inner:.2f} inside (the best of as many worthless ones "
        f"{luck:.2f}) and {exam:.2f} in the exam",
        deployed,
        untried,
        live,
    )


# --- with one ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """One market with an edge: the winner inside, in the exam, and on a thousand fresh sessions."""

    inner: float
    exam: float
    true: float
    short: float
    """Mean of the ratios of as few fresh sessions as an exam has: what an exam shows that favours no model."""
    sessions: int


def search_edge(home: Path, market: int) -> Truth | None:
    """Return what became of the winner; None where nothing earned its cost inside, so that nothing was examined."""
    settings = settings_of(home, EDGE_SEED + market, edge=1.0, cost_bps=1.0)
    day = find_month_end(market)
    found = loop_of(settings).search(as_of=day.isoformat())
    if found.winner is None or found.exam is None:
        return None
    adopted = apply_choice(settings, found.winner.settings)
    report = loop_of(adopted).retrain(force=True, as_of=day.isoformat())
    assert report.challenger is not None
    assert report.challenger.positions_sha256 == found.exam.positions_sha256
    net = score_fresh(adopted, report.model_id or "", day)
    parts = np.split(net, net.size // settings.exam.sessions)
    true, *shorts = (sharpe(part) if part.any() else 0.0 for part in (net, *parts))  # nothing traded: as for an exam
    return Truth(found.winner.inner_sharpe, found.exam.sharpe or 0.0, true, float(np.mean(shorts)), net.size)


def find_month_end(market: int) -> date:
    """Return the last day of the month in which a market is examined."""
    year, month = divmod(12 * FIRST_MONTH[0] + FIRST_MONTH[1] + market, 12)
    return date(year, month + 1, 1) - timedelta(days=1)


def score_fresh(settings: Settings, model_id: str, day: date) -> npt.NDArray[np.float64]:
    """Return the net P&L of an archived model on the FRESH_SESSIONS sessions after a day, 60 at a time."""
    model = artifact.load(Registry(Path(settings.paths.home)).locate_onnx(model_id), expected_features=None)
    source, _ = open_market(settings)
    later = CALENDAR.list_sessions(day + timedelta(days=1), day + timedelta(days=1500))["session"].to_list()
    parts = []
    for start in range(0, FRESH_SESSIONS, 60):
        days = later[start : min(start + 60, FRESH_SESSIONS)]
        warm = CALENDAR.find_previous_session(days[0], WARMUP_SESSIONS)
        sessions = CALENDAR.list_sessions(warm, days[-1])
        bars = pl.concat([clean(source.minutes(t, warm, days[-1]), sessions, ticker=t)[0] for t in TICKERS])
        rows = add_features(bars, settings.model.target_minutes).filter(pl.col("session") >= days[0])
        scored = examine(model, rows, days, cost_bps=settings.strategy.cost_bps, watchlist=TICKERS)
        parts.append(scored.simulation.net)
    return np.concatenate(parts)


@pytest.mark.bench
def test_the_exam_of_the_winner_is_not_better_than_the_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = [search_edge(tmp_path / str(market), market) for market in range(MARKETS)]
    markets = [market for market in tried if market is not None]
    line, bias = describe_truth(markets)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
    assert min(market.sessions for market in markets) >= FRESH_SESSIONS
    assert abs(bias) <= 0.8


def describe_truth(markets: list[Truth]) -> tuple[str, float]:
    """Return a line, and the mean of what the exam shows less what is true."""
    exam = np.array([market.exam - market.true for market in markets])
    inner = float(np.mean([market.inner - market.true for market in markets]))
    error = exam.std(ddof=1) / np.sqrt(exam.size)
    alike = float(np.mean([market.exam - market.short for market in markets]))
    return (
        f"{len(markets)} markets with an edge, {TRIALS} trials each: exam of the winner less its true Sharpe "
        f"{exam.mean():+.2f} +- {error:.2f}, less what exams of as few fresh sessions show {alike:+.2f} "
        f"(inside less true {inner:+.2f}); true "
        f"{np.mean([market.true for market in markets]):.2f}",
        float(exam.mean()),
    )


# --- at another horizon -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Echo:
    """What a session's moves do later: that of the last `minutes` goes on, by `strength` volatilities of a minute.

    Saturating. Where trading costs more, it is to be held for longer.
    """

    minutes: int
    strength: float
    cost_bps: float
    best: int
    """The horizon at which it earns most, of `HORIZONS`: see the last test."""


# Far from the default of 30. A year of exam shows, of one market each, net Sharpe ratios of 13.2, 9.9, 6.0, 1.5, 0.9,
# -0.3 at the six horizons, and of 3.6, 5.2, 6.6, 8.2, 10.4, 10.6.
ECHOES = (Echo(5, 0.16, 1.0, best=5), Echo(100, 0.12, 5.0, best=120))
_VOLATILITY = 0.0006  # of a minute, near that of a liquid share
_FIRST = date(2021, 1, 4)


def write_echo(folder: Path, seed: int, echo: Echo) -> None:
    """Write two tickers with an echo."""
    folder.mkdir(parents=True)
    sessions = CALENDAR.list_sessions(_FIRST, date.fromisoformat(DAY))
    for place, ticker in enumerate(TICKERS):
        rng = np.random.default_rng((seed, place))
        frames, price = [], 100.0
        for opened, closed in sessions.select("open", "close").iter_rows():
            minutes = int((closed - opened).total_seconds()) // 60
            path = build_path(rng, minutes, echo)
            closes = np.round(price * np.exp(_VOLATILITY * path), 4)
            opens = np.concatenate([[price], closes[:-1]])
            wick = np.abs(rng.normal(0, 0.3 * _VOLATILITY, (2, minutes))) * price
            frames.append(
                pl.DataFrame(
                    {
                        "ticker": [ticker] * minutes,
                        "ts": pl.Series([opened + timedelta(minutes=n) for n in range(minutes)]).cast(TS),
                        "open": opens,
                        "high": np.maximum(opens, closes) + wick[0],
                        "low": np.minimum(opens, closes) - wick[1],
                        "close": closes,
                        "volume": np.floor(1000 * rng.gamma(2.0, 1.0, minutes)) + 100,
                    }
                )
            )
            price = float(closes[-1] * np.exp(rng.normal(0, 0.004)))
        pl.concat(frames).write_parquet(folder / f"{ticker}.parquet")


def build_path(rng: np.random.Generator, minutes: int, echo: Echo) -> npt.NDArray[np.float64]:
    """Return a session's log price in volatilities of a minute, 0 before it."""
    noise = rng.standard_normal(minutes)
    level = np.zeros(minutes + 1)

    for now in range(minutes):
        move = (level[now] - level[max(0, now - echo.minutes)]) / np.sqrt(echo.minutes)
        level[now + 1] = level[now] + noise[now] + echo.strength * np.tanh(move)
    return level[1:]


@dataclass(frozen=True)
class Found:
    """One market whose edge is at another horizon: what is best there, and what the search chose; 0 for no winner."""

    best: int
    chosen: int

    @property
    def near(self) -> bool:
        return 0.5 <= self.chosen / self.best <= 2.0


def echo_settings(home: Path, market: int) -> tuple[Settings, Echo]:
    """Write the bars of a market with an echo; return the settings that read them."""
    echo = ECHOES[market % len(ECHOES)]
    settings = settings_of(home, 5000 + market, edge=0.0, cost_bps=echo.cost_bps, lookback_days=90)
    write_echo(home / "bars_in", 5000 + market, echo)
    files = replace(settings.files, folder=str(home / "bars_in"))
    return replace(settings, market=replace(settings.market, source="files"), files=files), echo


def search_echo(home: Path, market: int) -> Found:
    settings, echo = echo_settings(home, market)
    found = loop_of(settings).search(as_of=DAY)
    chosen = found.winner.settings["model.horizon_minutes"] if found.winner else 0
    assert isinstance(chosen, int)
    return Found(echo.best, chosen)


def measure_horizon(settings: Settings, horizon: int) -> float:
    """Return the net Sharpe ratio of the configured model with a horizon on the year before the search's window."""
    end = date.fromisoformat(DAY) - timedelta(days=settings.market.lookback_days + 2)
    wide = replace(
        settings,
        paths=replace(settings.paths, home=f"{settings.paths.home}/true"),
        market=replace(settings.market, lookback_days=500),
        model=replace(settings.model, horizon_minutes=horizon),
        exam=replace(settings.exam, sessions=190),
    )
    report = loop_of(wide).retrain(force=True, dry_run=True, as_of=end.isoformat())
    assert report.challenger is not None
    return report.challenger.sharpe or 0.0


@pytest.mark.bench
def test_a_search_finds_an_edge_at_another_horizon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    markets = [search_echo(tmp_path / str(market), market) for market in range(MARKETS)]
    line, share = describe_found(markets)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
    assert share >= 0.80


def describe_found(markets: list[Found]) -> tuple[str, float]:
    """Return a line, and the share of the markets in which the search came within a factor of two."""
    share = float(np.mean([market.near for market in markets]))
    pairs = ", ".join(f"{market.best}:{market.chosen}" for market in markets)
    return (
        f"{len(markets)} markets with the edge at another horizon: within a factor of 2 in {share:.2f} ({pairs})",
        share,
    )


@pytest.mark.bench
def test_each_echo_is_worth_most_at_the_horizon_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for market in range(len(ECHOES)):
        settings, echo = echo_settings(tmp_path / str(market), market)
        worth = [measure_horizon(settings, horizon) for horizon in HORIZONS]
        with capsys.disabled():
            sys.stdout.write(f"\n{echo}: {[round(each, 1) for each in worth]}\n")
        assert 0.5 <= HORIZONS[int(np.argmax(worth))] / echo.best <= 2.0
