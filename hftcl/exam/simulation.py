"""The judge: what target positions would have earned on bars, net of cost, session by session. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.errors import NoDataError, UndefinedStatisticError
from hftcl.exam.metrics import max_drawdown
from hftcl.exam.sums import add_by_place
from hftcl.formats import count
from hftcl.strategy.costs import compute_cost

FloatArray = npt.NDArray[np.float64]
_MINUTE_US: Final = 60_000_000  # the last bar of a session counts so many microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerResult:
    """One ticker's part of a simulation, summed over all sessions; gross, cost and turnover in fractions of capital."""

    ticker: str
    gross: float
    cost: float
    turnover: float
    trades: int

    @property
    def net(self) -> float:
        """P&L after cost."""
        return self.gross - self.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What positions earned. Arrays are float64, one value a session, in the order of `sessions` (oldest first).

    Everything is a fraction of a constant capital: profits are not reinvested, so sessions are comparable and add up.
    """

    sessions: tuple[date, ...]
    gross: FloatArray
    turnover: FloatArray
    cost_bps: float
    trades: int
    """Held intervals: from flat, or from the other side, until flat or the other side; within one ticker's session."""
    wins: int
    """Trades with a net P&L above 0."""
    exposure: float
    """Mean gross position between a session's first and last bar, over all sessions, as a fraction of capital."""
    tickers: tuple[TickerResult, ...]

    @property
    def cost(self) -> FloatArray:
        """What trading took, per session."""
        return compute_cost(self.turnover, cost_bps=self.cost_bps)

    @property
    def net(self) -> FloatArray:
        """P&L after cost, per session: the input of every figure of merit."""
        return self.gross - self.cost

    @property
    def pnl_by_session(self) -> dict[str, float]:
        """Net P&L by ISO date, oldest first; 0.0 for a session without a trade."""
        return {day.isoformat(): float(net) for day, net in zip(self.sessions, self.net, strict=True)}

    @property
    def hit_rate(self) -> float | None:
        """Share of the trades with a net P&L above 0; None without a trade."""
        return self.wins / self.trades if self.trades else None

    @property
    def max_drawdown(self) -> float:
        """Deepest fall of the cumulative net P&L from its running maximum, as a positive fraction of capital."""
        return max_drawdown(self.net)


def simulate(
    bars: pl.DataFrame, positions: pl.DataFrame, *, cost_bps: float, sessions: Sequence[date] | None = None
) -> Simulation:
    """Return what `positions` would have earned on `bars`; see `accounts` for how an order fills.

    bars, positions: as for `accounts`. sessions: those of the exam, where one of them may be without bars; the
    sessions of `bars` if not given. Each of them appears in the result, with 0.0 where nothing was held. An exam of no
    sessions, where the champion has seen them all, is an empty result for the verdict to call inconclusive.
    Raises NoDataError as `accounts` does, for bars outside of `sessions`, and where neither tells of a session.

    >>> from datetime import UTC, datetime, timedelta
    >>> stamps = [datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(minutes=n) for n in range(3)]
    >>> bars = pl.DataFrame({
    ...     "ticker": ["AAPL"] * 3, "ts": stamps, "session": [date(2026, 1, 5)] * 3, "minute": [0, 1, 2],
    ...     "session_minutes": [3] * 3, "open": [100.0, 101.0, 102.01], "close": [101.0, 102.0, 102.0],
    ... })
    >>> positions = pl.DataFrame({"ticker": ["AAPL"] * 3, "ts": stamps, "position": [1.0, 0.0, 0.0]})
    >>> earned = simulate(bars, positions, cost_bps=1.0)
    >>> round(float(earned.net[0]), 6), earned.trades
    (0.0098, 1)
    """
    rows = compute_accounts(bars, positions, cost_bps=cost_bps)
    days = tuple(sorted(set(rows["session"].to_list() if sessions is None else sessions)))
    strangers = rows.filter(~pl.col("session").is_in(pl.Series(days, dtype=pl.Date).implode()))
    if strangers.height or (sessions is None and not days):
        content = f"{strangers.height} bars of {strangers['session'][0]}" if strangers.height else "no bars"
        raise NoDataError(
            f"A simulation of {count(len(days), 'session')} got {content}. Give it the bars of its own sessions."
        )
    sums = SimulationSums(days, cost_bps=cost_bps)
    sums.add(rows, list_trades(rows, cost_bps))
    return sums.build()


class SimulationSums:
    """Adds up accounts part by part, to the bit as all at once.

    A part has all the bars of its tickers, and the parts come in the order of their tickers. Of each bar one number
    stays, its share of the exposure, and of each part a row a session and a result a ticker.
    """

    def __init__(self, days: Sequence[date], *, cost_bps: float) -> None:
        """Begin without a bar. days: the sessions of the exam, oldest first, each once."""
        self._days, self._cost_bps = tuple(days), float(cost_bps)
        self._gross, self._turnover = np.zeros(len(days)), np.zeros(len(days))
        self._trades, self._wins = 0, 0
        self._held: list[pl.Series] = []
        self._spans: list[pl.DataFrame] = []
        self._tickers: list[TickerResult] = []

    def add(self, rows: pl.DataFrame, trades: pl.DataFrame) -> None:
        """Add a part. rows: as `accounts` gives them, of no other sessions; trades: of `list_trades`."""
        place = np.searchsorted(np.array(self._days, dtype="datetime64[D]"), rows["session"].to_numpy())
        self._gross = add_by_place(self._gross, place, rows["gross"].to_numpy())
        self._turnover = add_by_place(self._turnover, place, rows["turnover"].to_numpy())
        self._trades += trades.height
        self._wins += int((trades["net"].to_numpy() > 0).sum())
        until_next = (pl.col("ts").shift(-1) - pl.col("ts")).over("ticker", "session").dt.total_microseconds()
        self._held.append(rows.select(pl.col("held").abs() * until_next.fill_null(_MINUTE_US)).to_series())
        first, last = pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last")
        self._spans.append(rows.group_by("session").agg(first, last))
        self._tickers += _sum_by_ticker(rows, trades, self._cost_bps)

    def build(self) -> Simulation:
        """Return what all parts together earned."""
        return Simulation(
            sessions=self._days,
            gross=self._gross,
            turnover=self._turnover,
            cost_bps=self._cost_bps,
            trades=self._trades,
            wins=self._wins,
            exposure=self._compute_exposure(),
            tickers=tuple(self._tickers),
        )

    def _compute_exposure(self) -> float:
        """Return the mean gross position: each bar counts until the ticker's next bar, the last one for its minute."""
        span = (pl.col("last").max() - pl.col("first").min()).dt.total_microseconds() + _MINUTE_US
        spans = pl.concat(self._spans).group_by("session").agg(span=span)["span"] if self._spans else pl.Series()
        time = int(spans.sum())
        # in one piece, for where its pieces end changes the sum of a column
        return float(pl.concat(self._held).rechunk().sum()) / time if time else 0.0


def compute_accounts(bars: pl.DataFrame, positions: pl.DataFrame, *, cost_bps: float) -> pl.DataFrame:
    """Return the account of each bar: ticker, ts, session, held, gross, turnover, cost; sorted by ticker and ts.

    bars: ticker, ts, session, open, close at least; one row a bar. positions: ticker, ts, position, with a row for each
        bar; rows without a bar are left aside, since nothing can fill there.
    What is decided on a bar fills at the open of the ticker's next bar of that session. So `held` on a bar is the
    position decided on the bar before, 0 on the session's first; the bar earns held * (next open / open - 1), the last
    one held * (close / open - 1). `turnover` is the change of `held` at the bar's open, plus, on the last bar, what is
    still held: it is closed at that bar's close, also where later bars of the session are missing. Nothing is held
    from one session to the next. All as fractions of a constant capital; `cost` is taken by `strategy.costs`.
    Raises NoDataError where bars have no position, and UndefinedStatisticError for a position that is not finite.
    """
    _check_positions(positions)
    rows = bars.select("ticker", "ts", "session", "open", "close").join(
        positions.select("ticker", "ts", pl.col("position").cast(pl.Float64)), on=["ticker", "ts"], how="left"
    )
    without = rows.filter(pl.col("position").is_null())
    if without.height or rows.height != bars.height:
        first = f"the first {without['ticker'][0]} at {without['ts'][0]}" if without.height else "several for one bar"
        raise NoDataError(
            f"{bars.height - without.height} of {bars.height} bars have one target position; {first}. "
            f"Decide on the very bars that are simulated."
        )
    by = ("ticker", "session")
    held, before = pl.col("held"), pl.col("held").shift(1, fill_value=0.0).over(by)
    move = pl.col("open").shift(-1).over(by).fill_null(pl.col("close")) / pl.col("open") - 1.0
    closing = pl.when(pl.col("ts") == pl.col("ts").max().over(by)).then(held.abs()).otherwise(0.0)
    filled = (
        rows.sort("ticker", "ts")
        .with_columns(held=pl.col("position").shift(1, fill_value=0.0).over(by))
        .with_columns(
            gross=pl.when(held == 0).then(0.0).otherwise(held * move),  # no P&L on a faulty price that nothing rode on
            turnover=(held - before).abs() + closing,
        )
    )
    taken = compute_cost(filled["turnover"].to_numpy(), cost_bps=cost_bps)
    return filled.select("ticker", "ts", "session", "held", "gross", "turnover", pl.Series("cost", taken))


def _check_positions(positions: pl.DataFrame) -> None:
    faulty = positions.filter(pl.col("position").is_finite().not_())
    if faulty.height:
        raise UndefinedStatisticError(
            f"{faulty.height} positions are not finite, the first of {faulty['ticker'][0]} at {faulty['ts'][0]}."
        )


def list_trades(rows: pl.DataFrame, cost_bps: float) -> pl.DataFrame:
    """Return one row a trade: ticker, opened (`ts` of the bar at whose open it began), net.

    A turn from long to short ends one trade and begins another.

    The net of a trade is its gross less the cost of opening, changing and closing it; of a turn, the old trade pays for
    closing the old side and the new one for opening the new. So the trades add up to the net of the sessions.
    """
    by = ("ticker", "session")
    held, side = pl.col("held"), pl.col("held").sign()
    before, after = held.shift(1, fill_value=0.0).over(by), held.shift(-1, fill_value=0.0).over(by)
    goes_on = before.sign() == side
    opened = pl.when(goes_on).then((held - before).abs()).otherwise(held.abs())
    closed = pl.when(after.sign() == side).then(0.0).otherwise(held.abs())
    marked = rows.with_columns(trade=(~goes_on).cast(pl.Int64).cum_sum(), own=opened + closed).filter(held != 0)
    trades = marked.group_by("ticker", "trade", maintain_order=True).agg(
        pl.col("ts").first().alias("opened"), pl.col("gross", "own").sum()
    )
    taken = compute_cost(trades["own"].to_numpy(), cost_bps=cost_bps)
    return trades.select("ticker", "opened", net=trades["gross"].to_numpy() - taken)


def _sum_by_ticker(rows: pl.DataFrame, trades: pl.DataFrame, cost_bps: float) -> tuple[TickerResult, ...]:
    sums = rows.group_by("ticker").agg(pl.col("gross", "turnover").sum()).sort("ticker")
    counts = dict(trades.group_by("ticker").len().iter_rows())
    taken = compute_cost(sums["turnover"].to_numpy(), cost_bps=cost_bps)
    return tuple(
        TickerResult(ticker=name, gross=gross, cost=float(paid), turnover=turnover, trades=counts.get(name, 0))
        for (name, gross, turnover), paid in zip(sums.iter_rows(), taken, strict=True)
    )
