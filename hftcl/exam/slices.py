"""The judge: where an exam's P&L came from, by ticker, hour, volatility and side. Pure; a simulation's accounts in.

A slice tells where to look, never which model to promote: each has a part of the exam's few sessions, and the best of
so many is good by luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import NoDataError
from hftcl.exam.sums import add_by_place
from hftcl.formats import HOUR_MINUTES, count, name_hour
from hftcl.strategy.costs import compute_cost

if TYPE_CHECKING:
    import polars as pl

FloatArray = npt.NDArray[np.float64]
Groups = npt.NDArray[np.intp]
# Terciles of volatility: with the 20 sessions of an exam, finer ones would hold too few.
REGIMES: Final = ("low", "middle", "high")
_SIDES: Final = {"long": 1.0, "short": -1.0}
"""The sign of a position of each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of an exam. gross, cost and turnover as fractions of capital, over all sessions of the exam.

    trades: those that began in it. held_share: share of its bars on which something was held; for a side, share of all
    bars on which that side was held. detail: what `name` stands for in this exam, where it does not say so itself.
    """

    name: str
    detail: str = ""
    gross: float
    cost: float
    turnover: float
    trades: int
    held_share: float

    @property
    def net(self) -> float:
        """P&L after cost."""
        return self.gross - self.cost


@dataclass(frozen=True, slots=True)
class _Accounts:
    """The columns of the accounts, one value a bar, sorted by ticker and ts; `opens`: a trade began on that bar."""

    held: FloatArray
    gross: FloatArray
    turnover: FloatArray
    opens: npt.NDArray[np.bool_]


class _Sums:
    """Adds up accounts by the name of their slice, part by part, to the bit as all at once."""

    def __init__(self) -> None:
        self._by_name: dict[Any, FloatArray] = {}  # gross, turnover, trades, bars on which something was held, bars

    def add(self, account: _Accounts, names: Sequence[Any], groups: Groups) -> None:
        """Add a part; `groups` tells the place in `names` of each bar."""
        columns = (account.gross, account.turnover, account.opens, account.held != 0, np.ones(len(groups)))
        before = [self._by_name.get(name, np.zeros(len(columns))) for name in names]
        if not names:
            return
        sums = [
            add_by_place(earlier, groups, column) for earlier, column in zip(np.array(before).T, columns, strict=True)
        ]
        self._by_name.update(zip(names, np.array(sums).T, strict=True))

    def list_keys(self) -> list[Any]:
        """Return what was added up, sorted."""
        return sorted(self._by_name)

    def build(
        self, keys: Sequence[Any], cost_bps: float, names: Sequence[str] = (), details: Sequence[str] = ()
    ) -> tuple[Slice, ...]:
        """Return one slice a key, by `names` where these are given."""
        rows = [self._by_name.get(key, np.zeros(5)) for key in keys]
        gross, turnover, trades, held, bars = np.array(rows).T if rows else np.zeros((5, 0))
        taken = compute_cost(turnover, cost_bps=cost_bps)
        share = held / np.maximum(bars, 1)
        return tuple(
            Slice(
                name=names[index] if names else key,
                detail=details[index] if details else "",
                gross=float(gross[index]),
                cost=float(taken[index]),
                turnover=float(turnover[index]),
                trades=int(trades[index]),
                held_share=float(share[index]),
            )
            for index, key in enumerate(keys)
        )


class SessionMoves:
    """How much prices moved in each session, from bars that come in parts: each has all the bars of its tickers."""

    def __init__(self) -> None:
        """Begin without a bar."""
        self._by_day: dict[date, FloatArray] = {}  # tickers, and the sum of their squared log returns

    def add(self, bars: "pl.DataFrame") -> None:
        """Add a part. bars: ticker, ts, session, close, in any order."""
        bars = bars.select("ticker", "ts", "session", "close").sort("ticker", "ts")
        days, sessions = _group(bars["session"])
        first = _find_first(_group(bars["ticker"])[1], sessions)
        logs = np.log(bars["close"].to_numpy())
        returns = np.where(first, 0.0, np.diff(logs, prepend=logs[:1]))
        before = np.array([self._by_day.get(day, np.zeros(2)) for day in days]).reshape(-1, 2).T
        sums = [add_by_place(one, sessions, column) for one, column in zip(before, (first, returns**2), strict=True)]
        self._by_day.update(zip(days, np.array(sums).T, strict=True))

    def find_regimes(self) -> tuple[dict[date, int], list[str]]:
        """Return the place of each session's regime in REGIMES, and what each regime stands for."""
        days = sorted(self._by_day)
        tickers, squares = np.array([self._by_day[day] for day in days]).reshape(-1, 2).T
        volatility = np.sqrt(squares / tickers)
        regime = np.empty(len(days), dtype=np.intp)
        regime[np.argsort(volatility, kind="stable")] = np.arange(len(days)) * len(REGIMES) // max(len(days), 1)
        details = [_format_range(volatility[regime == index]) for index in range(len(REGIMES))]
        return dict(zip(days, regime.tolist(), strict=True)), details


class SliceSums:
    """Adds up the slices of an exam part by part, to the bit as all at once: see `compute_slices`.

    Each part has all the bars of its tickers, and the parts come in the order of tickers. moves: of all parts.
    """

    def __init__(self, moves: SessionMoves, *, cost_bps: float, zone: str) -> None:
        """Begin without a bar."""
        self._regimes, self._details = moves.find_regimes()
        self._cost_bps, self._zone = cost_bps, zone
        self._tickers, self._hours, self._volatility, self._sides = _Sums(), _Sums(), _Sums(), _Sums()
        self._days: list[pl.DataFrame] = []

    def add(self, accounts: "pl.DataFrame", trades: "pl.DataFrame", bars: "pl.DataFrame") -> None:
        """Add a part. Raises NoDataError where `bars` are not those of the accounts."""
        bars = bars.select("ticker", "ts", "session", "minute", "session_minutes", "close").sort("ticker", "ts")
        if not bars.select("ticker", "ts").equals(accounts.select("ticker", "ts")):
            raise NoDataError(f"{accounts.height} accounts and {bars.height} bars are not those of one exam.")
        began = trades.select("ticker", "opened", "net").rename({"opened": "ts"})
        opens = accounts.select("ticker", "ts").join(began, on=["ticker", "ts"], how="left", maintain_order="left")
        account = _Accounts(
            held=accounts["held"].to_numpy(),
            gross=accounts["gross"].to_numpy(),
            turnover=accounts["turnover"].to_numpy(),
            opens=opens["net"].is_not_null().to_numpy(),
        )
        names, tickers = _group(bars["ticker"])
        days, sessions = _group(bars["session"])
        self._tickers.add(account, names, tickers)
        self._hours.add(account, *_group(bars["minute"] // HOUR_MINUTES))
        regimes = np.array([self._regimes[day] for day in days], dtype=np.intp)
        self._volatility.add(account, range(len(REGIMES)), regimes[sessions])
        self._add_sides(account, _find_first(tickers, sessions))
        self._days.append(_describe_days(bars))

    def build(self) -> dict[str, tuple[Slice, ...]]:
        """Return the slices of all parts together."""
        hours = self._hours.list_keys()
        return {
            "ticker": self._tickers.build(self._tickers.list_keys(), self._cost_bps),
            "hour": self._hours.build(hours, self._cost_bps, _name_hours(self._days, hours, self._zone)),
            "volatility": self._volatility.build(range(len(REGIMES)), self._cost_bps, REGIMES, self._details),
            "side": self._sides.build(tuple(_SIDES), self._cost_bps),
        }

    def _add_sides(self, account: _Accounts, first: npt.NDArray[np.bool_]) -> None:
        """Add long and short. What a fill turns over belongs to the side that it opens, changes or closes."""
        before = np.where(first, 0.0, np.concatenate([[0.0], account.held[:-1]])[: first.size])
        last = np.append(first[1:], True)[: first.size]
        for name, sign in _SIDES.items():
            now, then = np.maximum(sign * account.held, 0.0), np.maximum(sign * before, 0.0)
            part = _Accounts(
                held=now,
                gross=np.where(now > 0, account.gross, 0.0),
                turnover=np.abs(now - then) + np.where(last, now, 0.0),
                opens=account.opens & (now > 0),
            )
            self._sides.add(part, [name], np.zeros(len(now), dtype=np.intp))


def compute_slices(
    accounts: "pl.DataFrame", trades: "pl.DataFrame", bars: "pl.DataFrame", *, cost_bps: float, zone: str
) -> dict[str, tuple[Slice, ...]]:
    """Return the slices by "ticker", "hour", "volatility" and "side". Each of the four adds up to the whole exam.

    accounts, trades: of `simulation.compute_accounts` and `simulation.list_trades`. bars: ticker, ts, session, minute
        (from the session's open), session_minutes, close; the very bars of the accounts, in any order.
    zone: the exchange's time zone, by whose clock the hours are named.
    hour: 60 minutes of the session from its open, "09:30-10:30"; half an hour is left for the last of 390. They are
        named as on most days: on a day that opens late, each begins as much later.
    volatility: the sessions of the exam in three equal parts by their realised volatility (root of the summed squared
        log returns from bar to bar within the session, the mean square over the tickers); known only afterwards.
    side: long or short; in a turn the old side pays for its closing, the new one for its opening.
    Raises NoDataError where `bars` are not those of the accounts.
    """
    moves = SessionMoves()
    moves.add(bars)
    sums = SliceSums(moves, cost_bps=cost_bps, zone=zone)
    sums.add(accounts, trades, bars)
    return sums.build()


def _describe_days(bars: "pl.DataFrame") -> "pl.DataFrame":
    """Return of each session when it opened by the first of its bars here, and its minutes."""
    import polars as pl  # here: a light command that reads a model file's slices needs none

    # Bars after the regular close lengthen the day by which the hours are named.
    return bars.group_by("session").agg(
        (pl.col("ts").first() - pl.duration(minutes=pl.col("minute").first())).alias("opens"),
        pl.max_horizontal(pl.col("session_minutes").max(), pl.col("minute").max() + 1).alias("minutes"),
    )


def _name_hours(parts: "Sequence[pl.DataFrame]", hours: Sequence[int], zone: str) -> list[str]:
    """Return the names of `hours`. parts: of `_describe_days`."""
    import polars as pl

    if not hours:
        return []
    days = (
        pl.concat(parts).group_by("session", maintain_order=True).agg(pl.col("opens").first(), pl.col("minutes").max())
    )
    opens = days["opens"].dt.convert_time_zone(zone).dt.time().mode().sort()[0]
    longest = max(days["minutes"].to_list())
    return [name_hour(hour, opens, longest) for hour in hours]


def _group(values: "pl.Series") -> tuple[list[Any], Groups]:
    """Return the distinct values, sorted, and for each value the place of its like among them."""
    distinct = values.unique().sort()
    return distinct.to_list(), distinct.search_sorted(values).to_numpy().astype(np.intp)


def _find_first(tickers: Groups, sessions: Groups) -> npt.NDArray[np.bool_]:
    """Return which bars are the first of a ticker's session; sorted by ticker and ts."""
    first = np.ones(tickers.size, dtype=np.bool_)
    first[1:] = (tickers[1:] != tickers[:-1]) | (sessions[1:] != sessions[:-1])
    return first


def _format_range(volatility: FloatArray) -> str:
    if not volatility.size:
        return "no session"
    low, high = 100 * volatility.min(), 100 * volatility.max()
    return f"{count(volatility.size, 'session')} of {low:.2f} % to {high:.2f} % realised volatility"
