"""Small made-up markets, and a second implementation of all 31 features, in plain Python, to hold the first one to.

The reference knows nothing of the grid, of whole numbers or of polars windows: it walks lists of floats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

OPEN = time(14, 30, tzinfo=UTC)
SCHEMA: dict[str, pl.DataType] = {
    "ticker": pl.String(),
    "ts": pl.Datetime("us", "UTC"),
    "session": pl.Date(),
    "minute": pl.Int32(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
}


def market(
    seed: int = 0,
    *,
    tickers: Sequence[str] = ("AAA", "BBB", "CCC"),
    sessions: int = 3,
    minutes: int | Sequence[int] = 60,
    missing: float = 0.15,
    latest_start: int = 8,
) -> pl.DataFrame:
    """Random bars: minutes without a bar, tickers that start late, minutes without a move, fractional volumes."""
    random = np.random.default_rng(seed)
    lengths = [minutes] * sessions if isinstance(minutes, int) else list(minutes)
    rows = []
    for ticker in tickers:
        price = float(random.uniform(5, 500))
        for number, length in enumerate(lengths):
            opening = datetime.combine(date(2025, 3, 3) + timedelta(days=number), OPEN)
            price *= math.exp(random.normal(0, 0.01))
            start = int(random.integers(0, latest_start + 1))
            for minute in range(start, length):
                if minute > start and random.uniform() < missing:
                    continue
                before, price = price, price * math.exp(random.normal(0, 0.001) * (random.uniform() < 0.9))
                high = max(before, price) * (1 + abs(random.normal(0, 0.0004)))
                low = min(before, price) * (1 - abs(random.normal(0, 0.0004)))
                volume = float(round(random.lognormal(7, 1), 1))
                stamp = opening + timedelta(minutes=minute)
                rows.append((ticker, stamp, opening.date(), minute, before, high, low, price, volume))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def one_session(closes: Sequence[float], *, volume: float = 100.0, ticker: str = "AAA") -> pl.DataFrame:
    """One session of one ticker, a bar each minute, each opening at the close before."""
    opens = [closes[0], *closes[:-1]] if closes else []
    opening = datetime.combine(date(2025, 3, 3), OPEN)
    rows = [
        (ticker, opening + timedelta(minutes=i), opening.date(), i, o, max(o, c), min(o, c), c, volume)
        for i, (o, c) in enumerate(zip(opens, closes, strict=True))
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@dataclass
class Minutes:
    """One ticker's session, minute by minute; an empty minute repeats the close and has no volume."""

    first: int
    o: list[float]
    h: list[float]
    l: list[float]  # noqa: E741
    c: list[float]
    v: list[float]


Market = dict[tuple[str, date], Minutes]
Values = dict[str, float | None]


def reference(bars: pl.DataFrame) -> list[Values]:
    """All 31 features of each bar, in the order of the bars."""
    days: Market = {}
    newest: dict[date, int] = {}
    oldest: dict[date, int] = {}
    for bar in bars.iter_rows(named=True):
        newest[bar["session"]] = max(newest.get(bar["session"], -(10**9)), bar["minute"])
        oldest[bar["session"]] = min(oldest.get(bar["session"], 10**9), bar["minute"])
    for ticker, session in bars.select("ticker", "session").unique().iter_rows():
        own = {b["minute"]: b for b in bars.iter_rows(named=True) if (b["ticker"], b["session"]) == (ticker, session)}
        day = Minutes(min(own), [], [], [], [], [])
        for minute in range(min(own), newest[session] + 1):
            found = own.get(minute)
            last = day.c[-1] if day.c else math.nan
            day.o.append(found["open"] if found else last)
            day.h.append(found["high"] if found else last)
            day.l.append(found["low"] if found else last)
            day.c.append(found["close"] if found else last)
            day.v.append(found["volume"] if found else 0.0)
        days[ticker, session] = day
    sessions = sorted(newest)
    lengths = {s: newest[s] - oldest[s] + 1 for s in sessions}
    return [
        _values(days, sessions, lengths, bar["ticker"], bar["session"], bar["minute"])
        for bar in bars.iter_rows(named=True)
    ]


def _divide(part: float, whole: float, neutral: float) -> float:
    return neutral if abs(whole) < 1e-12 else part / whole


def _log_returns(day: Minutes, i: int, n: int) -> list[float]:
    return [math.log(day.c[k] / day.c[k - 1]) for k in range(i - n + 1, i + 1)]


def _rms(returns: Sequence[float]) -> float:
    return math.sqrt(sum(r * r for r in returns) / len(returns))


def _scaled_return(day: Minutes, i: int, n: int) -> float | None:
    if i < 30 or (vol := _rms(_log_returns(day, i, 30))) == 0:
        return None
    return math.log(day.c[i] / day.c[i - n]) / vol / math.sqrt(n)


def _ema(values: Sequence[float], span: int) -> list[float]:
    out = [values[0]]
    for value in values[1:]:
        out.append(out[-1] + 2 / (span + 1) * (value - out[-1]))
    return out


def _peers(days: Market, ticker: str, session: date, minute: int, n: int) -> float | None:
    others = [
        z
        for (name, s), day in days.items()
        if s == session and name != ticker and minute >= day.first
        if (z := _scaled_return(day, minute - day.first, n)) is not None
    ]
    return sum(others) / len(others) if others else None


def _values(
    days: Market, sessions: list[date], lengths: dict[date, int], ticker: str, session: date, minute: int
) -> Values:
    day = days[ticker, session]
    i = minute - day.first
    out: Values = {"time_of_session": minute / 390}
    o, h, l, c = day.o[i], day.h[i], day.l[i], day.c[i]  # noqa: E741
    out["candle_body"] = _divide(c - o, h - l, 0.0)
    upper, lower = h - max(o, c), min(o, c) - l
    out["candle_wick"] = _divide(upper - lower, h - l, 0.0)
    low, high = min(day.l[: i + 1]), max(day.h[: i + 1])
    out["range_position"] = _divide(c - low, high - low, 0.5)
    out |= _short_windows(day, i)
    out |= _across_sessions(days, sessions, lengths, ticker, session, minute)
    if i >= 30:
        out |= _in_volatility(day, i)
        vol = out["vol_30"]
        assert vol is not None
        for n in (5, 30):
            own, peers = _scaled_return(day, i, n), _peers(days, ticker, session, minute, n)
            out[f"ret_{n}_vs_watchlist"] = None if own is None else own - (own if peers is None else peers)
        out["watchlist_ret_15"] = _peers(days, ticker, session, minute, 15) or 0.0
        before = days.get((ticker, sessions[sessions.index(session) - 1])) if session != sessions[0] else None
        if before and vol > 0 and len(before.c) > 1:
            usual = _rms(_log_returns(before, len(before.c) - 1, len(before.c) - 1))
            out["vol_vs_previous_session"] = math.log(vol / usual)
    return out


def _short_windows(day: Minutes, i: int) -> Values:
    out: Values = {}
    if i >= 5:
        out["pressure_5"] = _pressure(day, i, 5)
    if i >= 13:
        low, high = min(day.l[i - 13 : i + 1]), max(day.h[i - 13 : i + 1])
        out["stochastic_14"] = _divide(day.c[i] - low, high - low, 0.5)
    if i >= 14:
        moves = _log_returns(day, i, 14)
        out["rsi_14"] = 100 * _divide(sum(m for m in moves if m > 0), sum(abs(m) for m in moves), 0.5)
    if i >= 19:
        logs = np.log(day.c[i - 19 : i + 1])
        out["bollinger_20"] = _divide(float(logs[-1] - logs.mean()), float(logs.std()), 0.0)
        squares, flow = [], 0.0
        for k in range(i - 19, i + 1):
            o, h, l, c = day.o[k], day.h[k], day.l[k], day.c[k]  # noqa: E741
            squares.append(0.5 * math.log(h / l) ** 2 - (2 * math.log(2) - 1) * math.log(c / o) ** 2)
            flow += day.v[k] * _divide((c - l) - (h - c), h - l, 0.0)
        out["garman_klass_20"] = math.sqrt(sum(squares) / 20)
        out["money_flow_20"] = _divide(flow, sum(day.v[i - 19 : i + 1]), 0.0)
    if i >= 29:
        out["volume_burst_5_30"] = _divide(sum(day.v[i - 4 : i + 1]) / 5, sum(day.v[i - 29 : i + 1]) / 30, 1.0)
    return out


def _pressure(day: Minutes, i: int, n: int) -> float:
    signed = sum(float(np.sign(day.c[k] - day.c[k - 1])) * day.v[k] for k in range(i - n + 1, i + 1))
    return _divide(signed, sum(day.v[i - n + 1 : i + 1]), 0.0)


def _in_volatility(day: Minutes, i: int) -> Values:
    vol = _rms(_log_returns(day, i, 30))
    out: Values = {"vol_30": vol, "pressure_30": _pressure(day, i, 30)}
    if vol == 0:
        return out
    for n in (1, 5, 15, 30):
        out[f"ret_{n}"] = _scaled_return(day, i, n)
    c = day.c[i]
    half_hour = vol * math.sqrt(30)
    out["ret_since_open"] = math.log(c / day.o[0]) / half_hour
    out["vol_ratio_5_30"] = _rms(_log_returns(day, i, 5)) / vol
    true_ranges = [math.log(max(day.h[k], day.c[k - 1]) / min(day.l[k], day.c[k - 1])) for k in range(i - 13, i + 1)]
    out["atr_14"] = sum(true_ranges) / 14 / vol
    for n in (10, 30):
        out[f"ma_dist_{n}"] = float(math.log(c) - np.log(day.c[i - n + 1 : i + 1]).mean()) / vol / math.sqrt(n)
    paid = sum((day.h[k] + day.l[k] + day.c[k]) / 3 * day.v[k] for k in range(i + 1))
    if (traded := sum(day.v[: i + 1])) > 0:
        out["vwap_dist"] = math.log(c / (paid / traded)) / half_hour
    logs = [math.log(x) for x in day.c[: i + 1]]
    line = [fast - slow for fast, slow in zip(_ema(logs, 12), _ema(logs, 26), strict=True)]
    out["macd_12_26"] = line[-1] / vol
    out["macd_histogram_9"] = (line[-1] - _ema(line, 9)[-1]) / vol
    return out


def _across_sessions(
    days: Market, sessions: list[date], lengths: dict[date, int], ticker: str, session: date, minute: int
) -> Values:
    out: Values = {}
    day, at = days[ticker, session], sessions.index(session)
    if at and (before := days.get((ticker, sessions[at - 1]))):
        out["gap_overnight"] = math.log(day.o[0] / before.c[-1])
    i = minute - day.first
    now = sum(day.v[max(0, i - 4) : i + 1])
    usual, volume, length = [], 0.0, 0
    for session_before in sessions[max(0, at - 5) : at]:
        if earlier := days.get((ticker, session_before)):
            volume += sum(earlier.v)
            length += lengths[session_before]
            j = minute - earlier.first
            if j < len(earlier.v):
                usual.append(sum(earlier.v[max(0, j - 4) : max(0, j + 1)]))
    if usual and volume:
        floor = volume / length / 2
        out["volume_vs_earlier_sessions"] = math.log((now + floor) / (sum(usual) / len(usual) + floor))
    return out
