"""Figures of merit of what was traded: booked P&L in, frozen figures out. Pure; the arithmetic of `exam.metrics`.

Net P&L per session is a fraction of a constant capital, 0.0 for a session without a trade. `booked` and `trades` are
the frames of an `Attribution`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.exam import metrics
from hftcl.formats import name_hour
from hftcl.performance.attribution import AMOUNTS, NET, OVERNIGHT, Amounts
from hftcl.performance.reports import CellFigures, Figures, PartFigures, RollingPoint, TradeBin

FloatArray = npt.NDArray[np.float64]
# In the order of date.weekday(), English whatever the host's language, as strftime would not be.
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Even, so that 0 is an edge: no bar holds gains and losses; bars of a page's width can still be told apart.
_BINS: Final = 24
WEEKDAY: Final = pl.col("session").dt.weekday().cast(pl.Int64) - 1
"""Of a row of what is booked, or of a trade: 0 for Monday."""


def compute_figures(
    booked: pl.DataFrame,
    trades: pl.DataFrame,
    sessions: Sequence[date],
    *,
    capital: float,
    exposure: float | None,
    sessions_per_year: int,
) -> Figures:
    """Return the figures of these amounts and trades over `sessions`, which hold all sessions of the amounts."""
    total = sum_amounts(booked)
    net = sum_by_session(booked, sessions, capital)
    ended = trades["net"].to_numpy()
    opens_known = total.opens > 0 or total.fills == 0
    return Figures(
        sessions=len(sessions),
        sharpe=metrics.compute_sharpe_or_none(net, sessions_per_year=sessions_per_year),
        sharpe_interval=metrics.compute_sharpe_interval(net, sessions_per_year),
        psr=metrics.compute_psr(net, sessions_per_year),
        net_usd=total.net,
        pnl=total.net / capital,
        gross_usd=total.gross,
        commission_usd=total.commission,
        slippage_usd=total.slippage,
        fill_cost_usd=total.fill_cost if opens_known else None,
        timing_usd=total.timing if opens_known else None,
        charges_usd=total.charges,
        max_drawdown=metrics.max_drawdown(net),
        trades=ended.size,
        hit_rate=compute_hit_rate(ended),
        profit_factor=compute_profit_factor(ended),
        fills=int(total.fills),
        turnover=total.traded / capital,
        exposure=exposure,
        cost_bps=compute_cost_bps(total),
        break_even_bps=1e4 * total.gross / total.traded if total.traded else None,
    )


def sum_amounts(booked: pl.DataFrame) -> Amounts:
    """Return the sum of what is booked."""
    (total,) = _sum_amounts_by(booked, np.zeros(booked.height, np.int64), 1)
    return total


def _sum_amounts_by(booked: pl.DataFrame, places: npt.NDArray[np.int64], size: int) -> list[Amounts]:
    """Return the sum of each place, added row by row."""
    sums = [np.bincount(places, weights=booked[name].to_numpy(), minlength=size).tolist() for name in AMOUNTS]
    return [Amounts(**dict(zip(AMOUNTS, row, strict=True))) for row in zip(*sums, strict=True)]


def sum_by_session(booked: pl.DataFrame, sessions: Sequence[date], capital: float) -> FloatArray:
    """Return the net P&L of each of `sessions` as a fraction of capital, float64, in their order."""
    if booked.is_empty():
        return np.zeros(len(sessions))
    places = np.searchsorted(np.array(sessions, "datetime64[D]"), booked["session"].to_numpy())
    nets = booked.select(NET).to_series().to_numpy() / capital  # polars' quotient by one number has other last bits
    return np.bincount(places, weights=nets, minlength=len(sessions)).astype(np.float64, copy=False)


def compute_cost_bps(amounts: Amounts) -> float | None:
    """Return commission and slippage per unit of turnover, in basis points; None where nothing was traded."""
    return 1e4 * (amounts.commission + amounts.slippage) / amounts.traded if amounts.traded else None


def compute_hit_rate(nets: FloatArray) -> float | None:
    """Return the share of the trades with a net P&L above 0; None without a trade. nets: USD, one a trade."""
    return int((nets > 0).sum()) / nets.size if nets.size else None


def compute_profit_factor(nets: FloatArray) -> float | None:
    """Return the sum of the gains / the sum of the losses; None where no trade lost. nets: USD, one a trade."""
    lost = -math.fsum(nets[nets < 0])
    return math.fsum(nets[nets > 0]) / lost if lost > 0 else None


def split_parts(
    booked: pl.DataFrame,
    trades: pl.DataFrame,
    *,
    capital: float,
    of: pl.Expr,
    name: Callable[[object], str],
) -> tuple[PartFigures, ...]:
    """Return one part for each value of `of`, in the order of the values; a trade is of its opening and its end."""
    amounts_of, trade_of = (frame.select(of).to_series() for frame in (booked, trades))
    values = pl.concat([amounts_of, trade_of]).unique().sort()
    of_amount, of_trade = (
        each.replace_strict(values, np.arange(values.len())).to_numpy() if each.len() else np.zeros(0, np.int64)
        for each in (amounts_of, trade_of)
    )
    turn = np.argsort(of_trade, kind="stable")
    nets = np.split(trades["net"].to_numpy()[turn], np.searchsorted(of_trade[turn], np.arange(1, values.len())))
    return tuple(
        PartFigures(
            name=name(value),
            net_usd=amounts.net,
            pnl=amounts.net / capital,
            turnover=amounts.traded / capital,
            trades=ended.size,
            hit_rate=compute_hit_rate(ended),
            profit_factor=compute_profit_factor(ended),
            cost_bps=compute_cost_bps(amounts),
        )
        for value, amounts, ended in zip(values, _sum_amounts_by(booked, of_amount, values.len()), nets, strict=False)
    )


def name_weekday(weekday: object) -> str:
    """Return the name of a weekday, from 0 for Monday."""
    return WEEKDAYS[weekday] if isinstance(weekday, int) else ""


def build_hour_names(opens: time, minutes: int) -> Callable[[object], str]:
    """Return what names an hour of a session as the exam does, "09:30-10:30"; "overnight" for what was held.

    opens: when sessions begin, by the clock of the exchange; minutes: how long they are.
    """

    def name_hour_or_overnight(hour: object) -> str:
        return name_hour(hour, opens, minutes) if isinstance(hour, int) and hour != OVERNIGHT else "overnight"

    return name_hour_or_overnight


def split_cells(booked: pl.DataFrame, name: Callable[[object], str]) -> tuple[CellFigures, ...]:
    """Return the net P&L of each weekday's hour, sorted; hours without a fill are left out. name: names an hour."""
    rows = booked.select(WEEKDAY.alias("day"), "hour", NET.alias("net"))
    cells = rows.select("day", "hour").unique().sort("day", "hour").with_row_index("place")
    placed = rows.join(cells, on=["day", "hour"], how="left", maintain_order="left")
    nets = np.bincount(placed["place"].to_numpy().astype(np.int64), weights=placed["net"].to_numpy())
    return tuple(
        CellFigures(weekday=WEEKDAYS[day], hour=hour, clock=name(hour), net_usd=net)
        for (_, day, hour), net in zip(cells.iter_rows(), nets.tolist(), strict=False)
    )


def sum_by_month(net: Mapping[str, float]) -> dict[str, float]:
    """Return the sums by month, "2026-01", of a P&L by ISO date."""
    sums: dict[str, float] = defaultdict(float)
    for day, pnl in net.items():
        sums[day[:7]] += pnl
    return dict(sums)


def compute_rolling(
    net: FloatArray, sessions: Sequence[date], window: int, sessions_per_year: int
) -> tuple[RollingPoint, ...]:
    """Return the Sharpe ratio over each `window` consecutive sessions; empty where there are fewer."""
    return tuple(
        RollingPoint(
            session=sessions[end - 1],
            sharpe=metrics.compute_sharpe_or_none(net[end - window : end], sessions_per_year=sessions_per_year),
        )
        for end in range(window, len(sessions) + 1)
    )


def trade_bins(nets: FloatArray) -> tuple[TradeBin, ...]:
    """Return the histogram of the trades' P&L, without those of exactly 0. nets: USD, one a trade."""
    return tuple(TradeBin(low_usd=low, high_usd=high, trades=many) for low, high, many in count_in_bins(nets))


def count_in_bins(values: FloatArray) -> list[tuple[float, float, int]]:
    """Return (from, to, how many) with 0 as one of the edges; the outer bins hold what lies beyond them.

    values: float64, shape (n,), of any unit. What is exactly 0 is neither a gain nor a loss, and in no bin; no bins
    where all are.
    """
    values = values[values != 0]
    if not values.size:
        return []
    reach = float(np.quantile(np.abs(values), 0.98))
    edges = reach * np.arange(-_BINS // 2, _BINS // 2 + 1) / (_BINS // 2)  # linspace would miss 0 by a rounding
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))
