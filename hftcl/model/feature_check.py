"""Whether features keep their promises: on small made-up markets, and on bars of the user's. Pure: no file, no clock.

That no value is NaN or infinite; that none changes, to the bit, when later bars arrive; that the bot, which sees
`lookback` minutes and `sessions` earlier sessions, finds the bits of the training; that neither the order of the bars
nor the unit of prices and volumes matters. That a feature is of use, only an exam tells.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

import numpy as np
import polars as pl

from hftcl.errors import FeatureError
from hftcl.formats import format_moment
from hftcl.market.bars import BAR_SCHEMA, PRICES
from hftcl.market.columns import Nature, find_nature
from hftcl.model.feature import Feature, build_value, list_columns
from hftcl.model.features import evaluate
from hftcl.model.grid import EARLIER_SESSIONS, TRAINING_COLUMNS, MinuteGrid, build_grid
from hftcl.model.made_up_market import MINUTES, Samples, make_market, sample_columns
from hftcl.model.streaming import StreamingFeatures

_MINUTES_AFTER: Final = 50  # of a session after the longest look-back, so that there are values to look at
LONGEST_LOOKBACK: Final = 900  # minutes: an hour less than a session with extended hours has, the longest there is
_WHOLE_DAY: Final = 390  # minutes of a full session: what looks further ahead than the short one lasts shows here
_CUTS: Final = 12  # moments at which the future is taken away, spread over the newest session
_CUTS_AT_ONCE: Final = 512  # bars, each with its session so far: half a million rows at most, 150 MB
_TICKERS_OF_USER: Final = 4  # enough that each has peers; more only take longer
_UNIT_TOLERANCE: Final = 1e-3  # relative: a float32 has 7 digits, and billionths of a log return are rounded once more
_PRICE_UNIT, _VOLUME_UNIT = 4.0, 8.0  # powers of two, which change no digit of a price

# What usually mends it, by the words before the first comma of the promise.
_HINTS: Final = {
    "a value never changes when later bars arrive": " It reads a later bar.",
    "the bot": " Raise its lookback, or sum whole numbers with hftcl.model.grid.count_whole.",
}
_FUTURE: Final = "a value never changes when later bars arrive"
_FINITE: Final = "it is null where it has no value, and never NaN or infinite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A promise that a feature breaks, and the first bar that shows it; "" where no bar does."""

    feature: str
    promise: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.promise}; first broken at {self.where}" if self.where else self.promise


@dataclass(slots=True)
class _Findings:
    """What was found so far: the first fault of each feature and promise."""

    samples: Samples = ()
    """The columns of the made-up markets."""
    faults: list[Fault] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def check(self, feature: Feature, kept: bool, promise: str, where: str = "") -> None:
        if not kept and (feature.name, promise) not in self.seen:
            self.seen.add((feature.name, promise))
            self.faults.append(Fault(feature=feature.name, promise=promise, where=where))

    def is_faultless(self, feature: Feature, promise: str) -> bool:
        return (feature.name, promise) not in self.seen


def find_faults(
    features: Sequence[Feature], *, taken: Collection[str] = (), samples: Samples = ()
) -> tuple[Fault, ...]:
    """Return what breaks a promise on made-up markets with gaps, late starts, jumps and still prices.

    taken: names of other features. samples: the further columns that bars have. The grids are built once for all
    features.
    """
    findings = _Findings(samples)
    for feature in features:
        _check_texts(findings, feature, taken)
    within = [feature for feature in features if 0 <= feature.lookback <= LONGEST_LOOKBACK]
    market = make_market(7, samples, minutes=_count_minutes(within))
    grid, computed = _build_grid(_list_readable(within), market), []
    for feature in within:
        error = _find_reading_error(feature) or _find_error(feature, grid)
        findings.check(feature, not error, f"its expression can be computed: {error}")
        if not error:
            computed.append(feature)
    table = tuple(computed)
    if table:
        values = evaluate(grid, table)
        _check_values(findings, table, market, values)
        _check_future(findings, table, market, values, grid)
        _check_long_day(findings, table)
        # Of one that looks ahead all else is an echo, and the bot's minutes take the longest.
        table = tuple(feature for feature in table if findings.is_faultless(feature, _FUTURE))
    if table:
        values = values.select(feature.name for feature in table)
        _check_sessions(findings, table, market, values)
        _check_bot(findings, table, market, values)
        _check_units(findings, table, market, values)
    return tuple(findings.faults)


def is_computable(feature: Feature, columns: Sequence[str] = ()) -> bool:
    """Whether polars can compute the feature of bars with `columns` at all; says nothing of its promises."""
    if _find_reading_error(feature):
        return False
    market = make_market(7, tuple((name, ()) for name in columns))
    return not _find_error(feature, _build_grid((feature,), market))


def _count_minutes(features: Sequence[Feature]) -> int:
    return max([MINUTES, *(feature.lookback + _MINUTES_AFTER for feature in features)])


def _list_readable(features: Sequence[Feature]) -> list[Feature]:
    return [feature for feature in features if not _find_reading_error(feature)]


def _find_reading_error(feature: Feature) -> str:
    """Return why there is no grid for a feature: what it reads cannot be said, or the bot does not have it; else ""."""
    if error := _name_error(lambda: feature.columns):
        return error
    unknown = sorted(TRAINING_COLUMNS.intersection(feature.columns))
    return f"the bot has no column {', '.join(unknown)}" if unknown else ""


def _find_error(feature: Feature, grid: MinuteGrid) -> str:
    return _name_error(lambda: evaluate(grid, (feature,)))


def _name_error(compute: Callable[[], object]) -> str:
    try:
        compute()
    except Exception as error:  # noqa: BLE001  an expression of a stranger may raise anything that polars has
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return ""


def find_faults_on(features: Sequence[Feature], bars: pl.DataFrame) -> tuple[Fault, ...]:
    """Return what looks ahead, or is NaN or infinite, on the newest sessions of `bars`, of BAR_SCHEMA and clean.

    The newest session of four tickers, and the five before it, which a feature may read; the future is taken away after
    each bar of that session.
    """
    findings, table = _Findings(), tuple(features)
    days = bars["session"].unique().sort().tail(EARLIER_SESSIONS + 1)
    newest = bars.filter(pl.col("session") == days[-1])
    tickers = newest["ticker"].unique().sort().head(_TICKERS_OF_USER)
    part = bars.filter(pl.col("session").is_in(days.implode()) & pl.col("ticker").is_in(tickers.implode()))
    part = part.sort("ticker", "ts")
    grid = _build_grid(table, part)
    values = evaluate(grid, table)
    for feature in table:
        infinite = find_infinite(values[feature.name])
        findings.check(feature, not infinite.any(), _FINITE, _name_first(part, infinite))
    _check_future(findings, table, part, values, grid)
    table = tuple(feature for feature in table if findings.is_faultless(feature, _FUTURE))
    if table:
        # Each bar is cut by itself; to compare the tickers of one minute looks no further than their values do.
        alone = tuple(replace(feature, across="") for feature in table)
        crossing = any(feature.across for feature in table)
        _check_each_bar(findings, alone, part, evaluate(grid, alone) if crossing else values, grid)
    return tuple(findings.faults)


def require_sound(features: Sequence[Feature], bars: pl.DataFrame) -> None:
    """Raise FeatureError, naming each fault, where features of the user break a promise: made-up markets, then `bars`.

    Features that were found sound once in this process are not looked at again on made-up markets, though the values of
    their columns would be drawn from other bars by then: of a backtest's weeks only the first is. bars: BAR_SCHEMA,
    clean.
    """
    if not features:
        return
    samples = sample_columns(bars, list_columns(_list_readable(features)))
    _require_sound_once(tuple(features), _Sampled(samples, tuple(name for name, values in samples if values)))
    if bars.height and (faults := find_faults_on(features, bars)):
        raise FeatureError("\n".join(_tell(fault) for fault in faults))


def require_values(features: Sequence[Feature], rows: pl.DataFrame) -> None:
    """Raise FeatureError where a feature of the user is NaN or infinite somewhere in `rows`, or null everywhere."""
    for feature in features:
        require_finite([feature], rows)
        if rows.height and rows[feature.name].null_count() == rows.height:
            raise FeatureError(
                f"The feature {feature.name} is null for each of {rows.height:,} bars, so that none of them could be "
                "trained on. Mend it, or leave it out with [features] drop."
            )


def require_finite(features: Sequence[Feature], rows: pl.DataFrame) -> None:
    """Raise FeatureError where a feature of the user is NaN or infinite somewhere in `rows`, and name the first bar."""
    for feature in features:
        values = rows[feature.name]
        infinite = find_infinite(values)
        if infinite.any():
            fault = Fault(feature=feature.name, promise=_FINITE, where=_name_first(rows, infinite, values))
            raise FeatureError(_tell(fault))


def find_infinite(values: pl.Series) -> pl.Series:
    """Return, row for row, whether a value is NaN or infinite; null is neither."""
    return ~values.is_finite().fill_null(value=True)


@dataclass(frozen=True, slots=True)
class _Sampled:
    """The columns of made-up markets; two are equal if the same ones have values."""

    samples: Samples = field(compare=False)
    with_values: tuple[str, ...]


@lru_cache(maxsize=8)  # a long-lived scheduler meets a few versions of a file; an error is not kept
def _require_sound_once(features: tuple[Feature, ...], sampled: _Sampled) -> None:
    if faults := find_faults(features, samples=sampled.samples):
        raise FeatureError("\n".join(_tell(fault, "the made-up bar ") for fault in faults))


def _tell(fault: Fault, bars_word: str = "") -> str:
    """Return one line; bars_word: what the bar that shows it is called."""
    hint = _HINTS.get(fault.promise.partition(",")[0], "")
    named = replace(fault, where=f"{bars_word}{fault.where}" if fault.where else "")
    return f"The feature {fault.feature} breaks a promise: {named}.{hint} Nothing was trained."


def _check_texts(findings: _Findings, feature: Feature, taken: Collection[str]) -> None:
    findings.check(
        feature,
        bool(re.fullmatch(r"[a-z][a-z0-9_]*", feature.name)) and feature.name not in taken,
        "its name is its own, in small letters, digits and _",
    )
    findings.check(
        feature,
        all(text.strip() for text in (feature.group, feature.formula, feature.reason)),
        "it has a group, a formula, which a model's hash covers, and a reason",
    )
    findings.check(
        feature,
        0 <= feature.lookback <= LONGEST_LOOKBACK and 0 <= feature.sessions <= EARLIER_SESSIONS,
        f"it reads 0 to {LONGEST_LOOKBACK} minutes, and 0 to {EARLIER_SESSIONS} earlier sessions",
    )


def _compute(table: tuple[Feature, ...], bars: pl.DataFrame) -> pl.DataFrame:
    return evaluate(_build_grid(table, bars), table)


def _build_grid(table: Sequence[Feature], bars: pl.DataFrame) -> MinuteGrid:
    """Return the grid with what the features read; a column that the bars lack fails where it is read.

    So does one of every bar that the grid has under another name or not at all, such as `volume`.
    """
    further = [name for name in list_columns(table) if name in bars.columns and name not in BAR_SCHEMA]
    return build_grid(bars, further)


def _name_first(bars: pl.DataFrame, broken: pl.Series, *values: pl.Series) -> str:
    """Return "AAPL 2026-01-05 14:31 UTC" of the earliest bar that is `broken`, with its values; "" for none."""
    rows = bars.select("ticker", "ts").with_columns(pl.Series("row", range(bars.height), dtype=pl.Int64))
    rows = rows.filter(broken).sort("ts", "ticker")
    if rows.is_empty():
        return ""
    ticker, ts, row = rows.row(0)
    bar = f"{ticker} {format_moment(ts)} UTC"
    if not values:
        return bar
    return f"{bar} ({', then '.join('null' if (value := one[row]) is None else f'{value:.9g}' for one in values)})"


def _compare(
    findings: _Findings, feature: Feature, bars: pl.DataFrame, before: pl.Series, after: pl.Series, promise: str
) -> None:
    """Note where two columns are not equal to the bit, null where null."""
    if before.len() != after.len():
        findings.check(feature, False, promise)
        return
    unequal = before.ne_missing(after)
    findings.check(feature, not unequal.any(), promise, _name_first(bars, unequal, before, after))


def _check_values(findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame) -> None:
    newest = bars["session"] == bars["session"].max()
    for feature in table:
        told = values[feature.name].filter(newest).drop_nulls()
        findings.check(feature, told.n_unique() > 1, "it has values, and not one and the same everywhere")
    names = {nature: [name for name, _ in findings.samples if find_nature(name) is nature] for nature in Nature}
    still = bars.with_columns(pl.lit(10.0).alias(name) for name in (*PRICES, *names[Nature.PRICE]))
    nothing = ("volume", *names[Nature.VOLUME], *names[Nature.COUNT])
    wild = make_market(8, findings.samples, wildness=1.0, minutes=_count_minutes(table))
    markets = (bars, wild, still, still.with_columns(pl.lit(0.0).alias(name) for name in nothing))
    for market in markets:
        of_market = values if market is bars else _compute(table, market)
        for feature in table:
            infinite = find_infinite(of_market[feature.name])
            findings.check(feature, not infinite.any(), _FINITE, _name_first(market, infinite))
    order = np.random.default_rng(1).permutation(bars.height)
    shuffled = _compute(table, bars[order])
    for feature in table:
        straight = values[feature.name].gather(pl.Series(order))
        _compare(findings, feature, bars[order], straight, shuffled[feature.name], "the order of the bars is no matter")


def _check_future(
    findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame, grid: MinuteGrid
) -> None:
    """Take the future away at several moments, and look whether the past changes. grid: of `bars`."""
    moments = bars.filter(pl.col("session") == bars["session"].max()).select("ts", "minute").unique().sort("ts")
    for at in np.linspace(0, max(moments.height - 2, 0), _CUTS).astype(int):
        stamp, minute = moments.row(int(at))
        known = bars["ts"] <= stamp
        past, without = bars.filter(known), evaluate(cut_grid(grid, known, minute), table)
        for feature in table:
            _compare(findings, feature, past, values[feature.name].filter(known), without[feature.name], _FUTURE)
        table = tuple(feature for feature in table if findings.is_faultless(feature, _FUTURE))
        if not table:
            return


def cut_grid(grid: MinuteGrid, known: pl.Series, minute: int) -> MinuteGrid:
    """Return what `build_grid` makes of the bars that are `known` at a minute of the newest session.

    known: for each bar of `grid`. To cut is a tenth of the work of building, and the same: its columns look back only.
    """
    frame = grid.frame
    kept = (frame["session_no"] < frame["session_no"].max()) | (frame["minute"] <= minute)
    rows = (np.cumsum(kept.to_numpy()) - 1)[grid.rows[known.to_numpy()]]
    return MinuteGrid(frame=frame.filter(kept), rows=rows)


def _check_each_bar(
    findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame, grid: MinuteGrid
) -> None:
    """Take the future away after each bar of the newest session, and look whether that bar's value changes.

    The grid is cut, not the bars, so that it is built once: its own columns look back only.
    """
    newest = bars["session"] == bars["session"].max()
    today, whole = bars.filter(newest), values.filter(newest)
    last = grid.rows[newest.to_numpy()]
    first = last - grid.frame["age"].to_numpy()[last]
    for begin in range(0, last.size, _CUTS_AT_ONCE):
        at = slice(begin, begin + _CUTS_AT_ONCE)
        spans = [np.arange(start, end + 1) for start, end in zip(first[at], last[at], strict=True)]
        lengths = np.array([span.size for span in spans])
        cut = pl.Series("part", np.repeat(np.arange(len(spans)), lengths), dtype=pl.UInt32)
        frame = grid.frame[np.concatenate(spans)].with_columns(cut)
        ends = pl.Series(np.cumsum(lengths) - 1)
        without = frame.select(build_value(feature).over("part").alias(feature.name) for feature in table)[ends]
        for feature in table:
            name = feature.name
            _compare(findings, feature, today[at], whole[at][name], without[name], _FUTURE)


def _check_long_day(findings: _Findings, table: tuple[Feature, ...]) -> None:
    table = tuple(feature for feature in table if findings.is_faultless(feature, _FUTURE))
    if table:
        bars, grid = _make_long_day(findings.samples)
        _check_future(findings, table, bars, evaluate(grid, table), grid)


@lru_cache(maxsize=2)
def _make_long_day(samples: Samples) -> tuple[pl.DataFrame, MinuteGrid]:
    bars = make_market(9, samples, sessions=2, minutes=_WHOLE_DAY)
    return bars, build_grid(bars, [name for name, _ in samples])


def _check_sessions(findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame) -> None:
    days = bars["session"].unique().sort().to_list()
    newest = bars["session"] == days[-1]
    for sessions in sorted({min(max(feature.sessions, 0), EARLIER_SESSIONS) for feature in table}):
        mine = tuple(feature for feature in table if feature.sessions == sessions)
        read = bars["session"].is_in(days[-1 - sessions :])
        fewer = _compute(mine, bars.filter(read)).filter(newest.filter(read))
        for feature in mine:
            _compare(
                findings,
                feature,
                bars.filter(newest),
                values[feature.name].filter(newest),
                fewer[feature.name],
                f"it reads no more than the {feature.sessions} earlier sessions that it names in `sessions`",
            )


def _check_bot(findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame) -> None:
    """Feed the newest session minute by minute; a feature sees its own look-back, not the longest of all."""
    for lookback in sorted({feature.lookback for feature in table}):
        mine = tuple(feature for feature in table if feature.lookback == lookback)
        promise = f"the bot, which sees the last {lookback} minutes named in `lookback`, finds the same bits"
        _check_minutes(findings, mine, bars, values, promise)


def _check_minutes(
    findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame, promise: str
) -> None:
    """Feed the newest session minute by minute. What differs looks ahead, or else it breaks `promise`.

    bars: sorted by ticker and ts.
    """
    newest = bars["session"] == bars["session"].max()
    today, past = bars.filter(newest), bars.filter(~newest)
    stream = StreamingFeatures(past, table=table)
    stream.start(today["session"][0])
    minutes = today.sort("ts", maintain_order=True).partition_by("ts", maintain_order=True)
    pushed = pl.concat([stream.push(minute) for minute in minutes]).sort("ticker", "ts")
    for feature in table:
        whole = values[feature.name].filter(newest)
        unequal = whole.ne_missing(pushed[feature.name])
        if unequal.any():
            known = bars["ts"] <= today["ts"].filter(unequal).min()
            without = _compute((feature,), bars.filter(known))[feature.name]
            _compare(findings, feature, bars.filter(known), values[feature.name].filter(known), without, _FUTURE)
        if findings.is_faultless(feature, _FUTURE):
            _compare(findings, feature, today, whole, pushed[feature.name], promise)


def _check_units(findings: _Findings, table: tuple[Feature, ...], bars: pl.DataFrame, values: pl.DataFrame) -> None:
    natures = {name: find_nature(name) for name, _ in findings.samples}
    prices = (*PRICES, *(name for name, nature in natures.items() if nature is Nature.PRICE))
    volumes = ("volume", *(name for name, nature in natures.items() if nature is Nature.VOLUME))
    other = _compute(table, bars.with_columns(pl.col(prices) * _PRICE_UNIT, pl.col(volumes) * _VOLUME_UNIT))
    for feature in table:
        one, two = values[feature.name].to_numpy(), other[feature.name].to_numpy()
        near = np.isclose(one, two, rtol=_UNIT_TOLERANCE, atol=_UNIT_TOLERANCE, equal_nan=True)
        where = _name_first(bars, pl.Series(~near), values[feature.name], other[feature.name])
        findings.check(feature, bool(near.all()), "the unit of prices and volumes is no matter", where)
