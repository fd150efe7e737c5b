"""Figures of merit of what was traded: booked P&L in, frozen figures out. Pure; the arithmetic of `exam.metrics`.

Net P&L per session is a fraction of a constant capital, 0.0 for a session without a trade.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import UndefinedStatisticError
from hftcl.exam import metrics
from hftcl.formats import hour_name
from hftcl.performance.attribution import OVERNIGHT, Amounts, Key, Trade
from hftcl.performance.reports import CellFigures, Figures, PartFigures, RollingPoint, TradeBin

FloatArray = npt.NDArray[np.float64]
# In the order of date.weekday(), English whatever the host's language, as strftime would not be.
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Even, so that 0 is an edge: no bar holds gains and losses; bars of a page's width can still be told apart.
_BINS: Final = 24


def compute_figures(
    booked: Mapping[Key, Amounts],
    trades: Sequence[Trade],
    sessions: Sequence[date],
    *,
    capital: float,
    exposure: float | None,
    sessions_per_year: int,
) -> Figures:
    """Return the figures of these amounts and trades over `sessions`, which hold all sessions of the amounts."""
    total = sum_amounts(booked.values())
    net = net_by_session(booked, sessions, capital)
    return Figures(
        sessions=len(sessions),
        sharpe=compute_or_none(lambda: metrics.sharpe(net, sessions_per_year=sessions_per_year)),
        sharpe_interval=compute_sharpe_interval(net, sessions_per_year),
        psr=compute_or_none(lambda: metrics.psr(net)),
        net_usd=total.net,
        pnl=total.net / capital,
        gross_usd=total.gross,
        commission_usd=total.commission,
        slippage_usd=total.slippage,
        fill_cost_usd=total.fill_cost,
        timing_usd=total.timing,
        charges_usd=total.charges,
        max_drawdown=metrics.max_drawdown(net),
        trades=len(trades),
        hit_rate=hit_rate(trades),
        profit_factor=profit_factor(trades),
        fills=total.fills,
        turnover=total.traded / capital,
        exposure=exposure,
        cost_bps=cost_bps(total),
        break_even_bps=1e4 * total.gross / total.traded if total.traded else None,
    )


def sum_amounts(amounts: Iterable[Amounts]) -> Amounts:
    """Return the sum of `amounts`."""
    total = Amounts()
    for amount in amounts:
        total.add(amount)
    return total


def net_by_session(booked: Mapping[Key, Amounts], sessions: Sequence[date], capital: float) -> FloatArray:
    """Return the net P&L of each of `sessions` as a fraction of capital, float64, in their order."""
    place = {session: index for index, session in enumerate(sessions)}
    net = np.zeros(len(sessions))
    for key, amounts in booked.items():
        net[place[key.session]] += amounts.net / capital
    return net


def cost_bps(amounts: Amounts) -> float | None:
    """Return commission and slippage per unit of turnover, in basis points; None where nothing was traded."""
    return 1e4 * (amounts.commission + amounts.slippage) / amounts.traded if amounts.traded else None


def hit_rate(trades: Sequence[Trade]) -> float | None:
    """Return the share of the trades with a net P&L above 0; None without a trade."""
    return sum(trade.net > 0 for trade in trades) / len(trades) if trades else None


def profit_factor(trades: Sequence[Trade]) -> float | None:
    """Return the sum of the gains / the sum of the losses; None where no trade lost."""
    lost = -math.fsum(trade.net for trade in trades if trade.net < 0)
    return math.fsum(trade.net for trade in trades if trade.net > 0) / lost if lost > 0 else None


def split_parts(
    booked: Mapping[Key, Amounts],
    trades: Sequence[Trade],
    *,
    capital: float,
    of: Callable[[Key | Trade], object],
    name: Callable[[object], str],
) -> tuple[PartFigures, ...]:
    """Return one part for each value of `of`, in the order of the values; a trade is of its opening and its end."""
    amounts: dict[object, Amounts] = defaultdict(Amounts)
    ended: dict[object, list[Trade]] = defaultdict(list)
    for key, amount in booked.items():
        amounts[of(key)].add(amount)
    for trade in trades:
        ended[of(trade)].append(trade)
    return tuple(
        PartFigures(
            name=name(value),
            net_usd=amounts[value].net,
            pnl=amounts[value].net / capital,
            turnover=amounts[value].traded / capital,
            trades=len(ended[value]),
            hit_rate=hit_rate(ended[value]),
            profit_factor=profit_factor(ended[value]),
            cost_bps=cost_bps(amounts[value]),
        )
        for value in sorted({*amounts, *ended})  # type: ignore[type-var]
    )


def weekday_name(weekday: object) -> str:
    """Return the name of a weekday, from 0 for Monday."""
    return WEEKDAYS[weekday] if isinstance(weekday, int) else ""


def build_hour_names(opens: time, minutes: int) -> Callable[[object], str]:
    """Return what names an hour of a session as the exam does, "09:30-10:30"; "overnight" for what was held.

    opens: when sessions begin, by the clock of the exchange; minutes: how long they are.
    """

    def name_hour(hour: object) -> str:
        return hour_name(hour, opens, minutes) if isinstance(hour, int) and hour != OVERNIGHT else "overnight"

    return name_hour


def split_cells(booked: Mapping[Key, Amounts], name: Callable[[object], str]) -> tuple[CellFigures, ...]:
    """Return the net P&L of each weekday's hour, sorted; hours without a fill are left out. name: names an hour."""
    sums: dict[tuple[int, int], float] = defaultdict(float)
    for key, amounts in booked.items():
        sums[key.session.weekday(), key.hour] += amounts.net
    return tuple(
        CellFigures(weekday=WEEKDAYS[day], hour=hour, clock=name(hour), net_usd=net)
        for (day, hour), net in sorted(sums.items())
    )


def months(net: Mapping[str, float]) -> dict[str, float]:
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
        RollingPoint(session=sessions[end - 1], sharpe=_compute_sharpe(net[end - window : end], sessions_per_year))
        for end in range(window, len(sessions) + 1)
    )


def trade_bins(trades: Sequence[Trade]) -> tuple[TradeBin, ...]:
    """Return a histogram of the trades' P&L with 0 as one of its edges; the outer bins hold what lies beyond them."""
    if not trades:
        return ()
    net = np.array([trade.net for trade in trades])
    reach = float(np.quantile(np.abs(net), 0.98)) or 1.0
    edges = reach * np.arange(-_BINS // 2, _BINS // 2 + 1) / (_BINS // 2)  # linspace would miss 0 by a rounding
    counts, _ = np.histogram(np.clip(net, edges[0], edges[-1]), edges)
    return tuple(
        TradeBin(low_usd=float(low), high_usd=float(high), trades=int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )


def compute_or_none(statistic: Callable[[], float]) -> float | None:
    """Return `statistic()`, or None where these numbers do not define it."""
    try:
        return statistic()
    except UndefinedStatisticError:
        return None


def _compute_sharpe(net: FloatArray, sessions_per_year: int) -> float | None:
    return compute_or_none(lambda: metrics.sharpe(net, sessions_per_year=sessions_per_year))


def compute_sharpe_interval(net: FloatArray, sessions_per_year: int) -> tuple[float, float] | None:
    """Return the 90 % interval of the annual Sharpe ratio, or None where these numbers do not define it."""
    try:
        interval = metrics.sharpe_interval(net, sessions_per_year=sessions_per_year)
    except UndefinedStatisticError:
        return None
    return interval.low, interval.high
