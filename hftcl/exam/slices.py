"""The judge: where an exam's P&L came from, by ticker, hour, volatility and side. Pure; a simulation's accounts in.

A slice tells where to look, never which model to promote: each has a part of the exam's few sessions, and the best of
so many is good by luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import NoDataError
from hftcl.formats import HOUR_MINUTES, count, hour_name
from hftcl.strategy.costs import cost

if TYPE_CHECKING:
    import polars as pl

FloatArray = npt.NDArray[np.float64]
Groups = npt.NDArray[np.intp]
# Terciles of volatility: with the 20 sessions of an exam, finer ones would hold too few.
REGIMES: Final = ("low", "middle", "high")


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
    cost_bps: float

    def slice_by(self, groups: Groups, names: Sequence[str], details: Sequence[str] = ()) -> tuple[Slice, ...]:
        """Return one slice a name; `groups` tells which one each bar belongs to."""
        n = len(names)
        gross, turnover, trades, held = (
            np.bincount(groups, column, n).astype(np.float64)
            for column in (self.gross, self.turnover, self.opens, self.held != 0)
        )
        taken = cost(turnover, cost_bps=self.cost_bps)
        share = held / np.maximum(np.bincount(groups, minlength=n), 1)
        return tuple(
            Slice(
                name=name,
                detail=details[index] if details else "",
                gross=float(gross[index]),
                cost=float(taken[index]),
                turnover=float(turnover[index]),
                trades=int(trades[index]),
                held_share=float(share[index]),
            )
            for index, name in enumerate(names)
        )


def compute_slices(
    accounts: "pl.DataFrame", trades: "pl.DataFrame", bars: "pl.DataFrame", *, cost_bps: float, zone: str
) -> dict[str, tuple[Slice, ...]]:
    """Return the slices by "ticker", "hour", "volatility" and "side". Each of the four adds up to the whole exam.

    accounts, trades: of `simulation.accounts` and `simulation.list_trades`. bars: ticker, ts, session, minute (from
        the session's open), session_minutes, close; the very bars of the accounts, in any order.
    zone: the exchange's time zone, by whose clock the hours are named.
    hour: 60 minutes of the session from its open, "09:30-10:30"; half an hour is left for the last of 390. They are
        named as on most days: on a day that opens late, each begins as much later.
    volatility: the sessions of the exam in three equal parts by their realised volatility (root of the summed squared
        log returns from bar to bar within the session, the mean square over the tickers); known only afterwards.
    side: long or short; in a turn the old side pays for its closing, the new one for its opening.
    Raises NoDataError where `bars` are not those of the accounts.
    """
    bars = bars.select("ticker", "ts", "session", "minute", "session_minutes", "close").sort("ticker", "ts")
    if not bars.select("ticker", "ts").equals(accounts.select("ticker", "ts")):
        raise NoDataError(f"{accounts.height} accounts and {bars.height} bars are not those of one exam.")
    began = trades.select("ticker", "opened", "net").rename({"opened": "ts"})
    opens = accounts.select("ticker", "ts").join(began, on=["ticker", "ts"], how="left", maintain_order="left")["net"]
    account = _Accounts(
        held=accounts["held"].to_numpy(),
        gross=accounts["gross"].to_numpy(),
        turnover=accounts["turnover"].to_numpy(),
        opens=opens.is_not_null().to_numpy(),
        cost_bps=cost_bps,
    )
    names, tickers = _group(bars["ticker"])
    days, sessions = _group(bars["session"])
    first = np.ones(bars.height, dtype=np.bool_)
    first[1:] = (tickers[1:] != tickers[:-1]) | (sessions[1:] != sessions[:-1])
    regimes, details = _find_regimes(bars["close"].to_numpy(), first, sessions, len(days))
    hours, hour_of = _group(bars["minute"] // HOUR_MINUTES)
    return {
        "ticker": account.slice_by(tickers, names),
        "hour": account.slice_by(hour_of, _name_hours(bars, hours, zone)),
        "volatility": account.slice_by(regimes, REGIMES, details),
        "side": _slice_by_side(account, first),
    }


def _name_hours(bars: "pl.DataFrame", hours: Sequence[int], zone: str) -> list[str]:
    """Return the names of `hours`. Bars after the regular close lengthen the day by which they are named."""
    import polars as pl  # here: a light command that reads a model file's slices needs none

    if bars.is_empty():
        return []
    days = bars.group_by("session").agg(
        (pl.col("ts").first() - pl.duration(minutes=pl.col("minute").first())).alias("opens"),
        pl.max_horizontal(pl.col("session_minutes").max(), pl.col("minute").max() + 1).alias("minutes"),
    )
    opens = days["opens"].dt.convert_time_zone(zone).dt.time().mode().sort()[0]
    longest = max(days["minutes"].to_list())
    return [hour_name(hour, opens, longest) for hour in hours]


def _group(values: "pl.Series") -> tuple[list[Any], Groups]:
    """Return the distinct values, sorted, and for each value the place of its like among them."""
    distinct = values.unique().sort()
    return distinct.to_list(), distinct.search_sorted(values).to_numpy().astype(np.intp)


def _find_regimes(
    close: FloatArray, first: npt.NDArray[np.bool_], sessions: Groups, n: int
) -> tuple[Groups, list[str]]:
    """Return, for each bar, the place of its session's regime in REGIMES, and what each regime stands for."""
    logs = np.log(close)
    returns = np.where(first, 0.0, np.diff(logs, prepend=logs[:1]))
    tickers = np.bincount(sessions, first, n)  # of a session that there is: one or more
    volatility = np.sqrt(np.bincount(sessions, returns**2, n) / tickers)
    regime = np.empty(n, dtype=np.intp)
    regime[np.argsort(volatility, kind="stable")] = np.arange(n) * len(REGIMES) // max(n, 1)
    return regime[sessions], [_format_range(volatility[regime == index]) for index in range(len(REGIMES))]


def _format_range(volatility: FloatArray) -> str:
    if not volatility.size:
        return "no session"
    low, high = 100 * volatility.min(), 100 * volatility.max()
    return f"{count(volatility.size, 'session')} of {low:.2f} % to {high:.2f} % realised volatility"


def _slice_by_side(account: _Accounts, first: npt.NDArray[np.bool_]) -> tuple[Slice, ...]:
    """Return long and short. What a fill turns over belongs to the side that it opens, changes or closes."""
    before = np.where(first, 0.0, np.concatenate([[0.0], account.held[:-1]]))
    last = np.append(first[1:], True)
    slices: list[Slice] = []
    for name, sign in (("long", 1.0), ("short", -1.0)):
        now, then = np.maximum(sign * account.held, 0.0), np.maximum(sign * before, 0.0)
        part = _Accounts(
            held=now,
            gross=np.where(now > 0, account.gross, 0.0),
            turnover=np.abs(now - then) + np.where(last, now, 0.0),
            opens=account.opens & (now > 0),
            cost_bps=account.cost_bps,
        )
        slices += part.slice_by(np.zeros(len(now), dtype=np.intp), [name])
    return tuple(slices)
