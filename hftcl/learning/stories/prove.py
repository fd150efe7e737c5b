"""The story of `prove`: shows on the user's own bars that nothing looks ahead. Changes nothing.

Whatever comes after a cut is replaced, and everything decided up to the cut must stay equal to the bit: the very rows
that train, features and known labels, and what a model makes of them. A leak planted on purpose goes through the same
comparison, so that a proof that could not fail is not taken for one. Bars that were built with the future pass all of
that: they are looked at by themselves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.artifact import FeatureSet, Model
from hftcl.archive.fitness import find_market_kind, find_unfit, load_fit
from hftcl.archive.registry import Registry
from hftcl.compute.crew import count_cores
from hftcl.errors import NoDataError
from hftcl.events import Event, OnEvent
from hftcl.exam import metrics
from hftcl.exam.split import find_unseen, list_sessions, split_for_exam
from hftcl.formats import count
from hftcl.home import Home
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.miracle import find_correlations
from hftcl.learning.reports import ProofReport
from hftcl.learning.score import run_late, run_model
from hftcl.learning.tampering import TAMPERINGS, Tampering
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.doubts import LATER, SMOOTH
from hftcl.market.sessions import Calendar
from hftcl.model.feature import Feature, list_columns
from hftcl.model.features import WARMUP_SESSIONS, evaluate
from hftcl.model.grid import build_grid
from hftcl.model.inputs import Inputs
from hftcl.model.streaming import StreamingFeatures
from hftcl.model.target import evaluate_target
from hftcl.settings import Settings, Side
from hftcl.strategy.positions import compute_target_positions

LEAK: Final = Feature(  # a leak planted on purpose: a comparison that does not catch it proves nothing
    name="leak",
    group="planted",
    expr=pl.col("close").shift(-1) / pl.col("close") - 1,
    lookback=0,
    formula="close(t+1) / close(t) - 1",
    reason="A leak planted on purpose: the comparison that misses it proves nothing.",
)

_PLAUSIBLE_GROSS: Final = 12.0  # honest exams of 20 sessions of liquid shares scatter within +-13 before selection
# A prediction for half an hour is worth nearly as much a minute later; one that reads the next minute is worth nothing.
_KEPT_BY_A_MINUTE: Final = 0.5
_FEWEST_SESSIONS: Final = 5  # fewer make no Sharpe ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One point in time in one session, and the bars that decide there: its session and those that features read.

    rows: of the frame that trains, the session's up to `ts`, sorted by ticker and ts.
    """

    ts: datetime
    session: date
    bars: pl.DataFrame
    rows: pl.DataFrame


def prove(
    settings: Settings, *, cases: int, seed: int, as_of: str | None, now: datetime, on_event: OnEvent
) -> ProofReport:
    """Return what was compared and how often it differed; the proof holds where every count of differences is 0.

    cases: cut points, each with all four replacements. seed: of the cuts. Bars that the cache lacks are not kept.
    Raises NoDataError where no session has the earlier sessions that features read.
    """
    window = open_window(settings, as_of=as_of, now=now, save=False, on_event=on_event)
    data = window.assemble()
    model, unfit = _load_serving(settings, data.features)
    decide = _build_decider(settings, model, data.features)
    random = np.random.default_rng(seed)
    features = _list_proven(data.features, model)
    counts = _Counts()
    for done, cut in enumerate(_draw_cuts(data.frame, cases, random, list_columns(features))):
        later = [_replace_later(cut, replace, random, window.calendar) for replace in TAMPERINGS.values()]
        counts.add(cut, later, features, decide, settings.model.target_minutes)
        on_event(Event("prove", done + 1, cases))
    streamed, streaming_differences = _compare_streaming(data.frame, features, random, on_event)
    label_overlap = _count_label_overlap(data, settings)
    miracle = look_for_miracles(data, model, settings)
    honest = not (counts.any_difference or streaming_differences or label_overlap)
    return ProofReport(
        proved=honest and counts.leak_caught and not miracle.doubts,
        cases=cases,
        replacements=tuple(TAMPERINGS),
        values_compared=counts.compared,
        differences=counts.differences,
        frame_differences=counts.frame_differences,
        label_differences=counts.label_differences,
        planted_leak_caught=counts.leak_caught,
        label_overlap=label_overlap,
        streamed_bars=streamed,
        streaming_differences=streaming_differences,
        closes_foretell=miracle.closes_foretell,
        returns_repeat=miracle.returns_repeat,
        gross_sharpe=miracle.gross_sharpe,
        gross_sharpe_a_minute_later=miracle.gross_sharpe_a_minute_later,
        doubts=miracle.doubts,
        model_id=model.meta.model_id if model else None,
        unfit=unfit,
        source=data.source,
        synthetic=data.synthetic,
        as_of=data.as_of.at,
        as_of_note=data.as_of.note,
        sessions=len(data.sessions),
        tickers=data.tickers,
    )


@dataclass(slots=True)
class _Counts:
    """What was compared up to now, and what differed. leak_caught: whether the planted leak was seen every time."""

    compared: int = 0
    differences: int = 0
    frame_differences: int = 0
    label_differences: int = 0
    leak_caught: bool = True

    @property
    def any_difference(self) -> bool:
        return bool(self.differences or self.frame_differences or self.label_differences)

    def add(
        self, cut: Cut, later: Sequence[pl.DataFrame], table: tuple[Feature, ...], decide: "Decider", horizon: int
    ) -> None:
        """Compare the rows of a cut with those of other bars after it; `later` holds each of these whole.

        One grid of the other bars serves both comparisons: what was decided before, and the rows that train.
        """
        with_leak = (*table, LEAK)
        before = _decide(_compute_rows(cut.bars, cut, with_leak), with_leak, decide)
        honest = [name for name in before.columns if name != LEAK.name]
        for bars in later:
            rows = _compute_rows(bars, cut, with_leak, horizon)
            unequal, labels = _compare_rows(cut, rows, table)
            self.frame_differences += unequal
            self.label_differences += labels
            after = _decide(rows, with_leak, decide)
            self.differences += _count_unequal(before.select(honest), after.select(honest))
            self.compared += before.height * len(honest)
            self.leak_caught &= _count_unequal(before.select(LEAK.name), after.select(LEAK.name)) > 0


def _compute_rows(bars: pl.DataFrame, cut: Cut, table: tuple[Feature, ...], horizon: int | None = None) -> pl.DataFrame:
    """Return the bars of the cut's session up to the cut with their features, sorted by ticker and ts.

    horizon: of the target, minutes; target and label_end are there only with it.
    """
    grid = build_grid(bars, list_columns(table))
    targets = [evaluate_target(grid, horizon)] if horizon else []
    rows = pl.concat([bars, evaluate(grid, table), *targets], how="horizontal")
    return rows.filter((pl.col("session") == cut.session) & (pl.col("ts") <= cut.ts)).sort("ticker", "ts")


def _list_proven(described: FeatureSet, model: Model | None) -> tuple[Feature, ...]:
    """Return ours, those that are trained on and those that the model reads: what was dropped for a leak is none."""
    names = {*described.names, *(model.meta.feature_names if model else ())}
    return tuple(feature for feature in described.table if not feature.source or feature.name in names)


def _load_serving(settings: Settings, features: FeatureSet) -> tuple[Model | None, str | None]:
    """Return the model that serves, or why the one that is deployed may not: it decides nothing here."""
    registry, market = Registry(Home.of(settings).root), find_market_kind(settings)
    live, unfit = registry.find_live(), find_unfit(registry, market)
    if live is None or unfit is not None:
        return None, unfit
    return load_fit(registry.production, sha256=live.sha256, market=market, features=features), None


Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """From features to a position: the serving model, or a fixed sum of features where none serves."""

    predict: Predict
    inputs: Inputs
    threshold: float
    horizon_minutes: int
    flat_minutes_before_close: int
    side: Side = "both"


def _build_decider(settings: Settings, model: Model | None, features: FeatureSet) -> Decider:
    if model is not None:
        return Decider(
            predict=lambda X: np.where(model.find_novel(X), np.float32(np.nan), model.predict(X)),
            inputs=model.meta.inputs,
            threshold=model.meta.threshold,
            horizon_minutes=model.meta.horizon_minutes,
            flat_minutes_before_close=model.meta.flat_minutes_before_close,
            side=model.meta.side,
        )
    names = features.names
    weights = np.random.default_rng(0).normal(size=len(names)).astype(np.float32)

    def predict(X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # Row by row in float64: a matrix product may add in another order for another number of rows.
        return np.array([np.sum(row.astype(np.float64) * weights) for row in X], dtype=np.float32)

    return Decider(
        predict=predict,
        inputs=Inputs(names=names),
        threshold=1.0,
        horizon_minutes=settings.model.target_minutes,
        flat_minutes_before_close=settings.strategy.flat_minutes_before_close,
    )


def _draw_cuts(frame: pl.DataFrame, cases: int, random: np.random.Generator, columns: Sequence[str]) -> Iterator[Cut]:
    """Yield random cuts: any minute of any session that has the earlier sessions before it and one after it."""
    days = sorted(frame["session"].unique().to_list())
    eligible = days[WARMUP_SESSIONS:-1]
    if not eligible:
        raise NoDataError(
            f"{count(len(days), 'session')} with bars; a proof needs "
            f"{WARMUP_SESSIONS + 2}: raise [market] lookback_days."
        )
    rows_by_day = frame.sort("ticker", "ts").partition_by("session", as_dict=True)
    by_day = {day: rows.select(*BAR_SCHEMA.names(), *columns) for day, rows in rows_by_day.items()}
    for _ in range(cases):
        place = int(random.integers(len(eligible))) + WARMUP_SESSIONS
        window = pl.concat([by_day[(day,)] for day in days[place - WARMUP_SESSIONS : place + 2]]).sort("ticker", "ts")
        stamps = by_day[(days[place],)]["ts"].unique().sort()
        ts = stamps[int(random.integers(stamps.len() - 1))]
        yield Cut(ts=ts, session=days[place], bars=window, rows=rows_by_day[(days[place],)].filter(pl.col("ts") <= ts))


def _compare_rows(cut: Cut, rows: pl.DataFrame, table: tuple[Feature, ...]) -> tuple[int, int]:
    """Return how many features and how many labels of the rows that train differ from those computed once more.

    rows: up to the cut, of bars that differ after it. A label counts where the row says that it was known at the cut:
    one that ends later than it says differs there.
    """
    names = [feature.name for feature in table]
    features = _count_unequal(cut.rows.select(names), rows.select(names))
    labels = [part.select("target", "label_end") for part in (cut.rows, rows)]
    if labels[0].height == labels[1].height:
        known = cut.rows["label_end"].le(cut.ts).fill_null(value=False)
        labels = [part.filter(known) for part in labels]
    return features, _count_unequal(labels[0], labels[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Miracle:
    """What would make an edge too good to be true: see `ProofReport`."""

    closes_foretell: float | None
    returns_repeat: float | None
    gross_sharpe: float | None
    gross_sharpe_a_minute_later: float | None
    doubts: tuple[str, ...]


def look_for_miracles(data: Dataset, model: Model | None, settings: Settings) -> Miracle:
    """Look whether the bars foretell themselves, and whether the model's edge outlives one minute of delay."""
    doubts: list[str] = []
    later, smooth = find_correlations(data.frame)
    if later is not None and later > LATER:
        doubts.append("a close foretells the next bar: opens are stale, or closes are of the minute after")
    if smooth is not None and smooth > SMOOTH:
        doubts.append("one minute's return foretells the next one's: prices are means over several minutes")
    now, delayed = _compute_delay(data, model, settings)
    doubts += filter(None, [find_delay_doubt(now, delayed)])
    return Miracle(
        closes_foretell=later,
        returns_repeat=smooth,
        gross_sharpe=now,
        gross_sharpe_a_minute_later=delayed,
        doubts=() if data.synthetic else tuple(doubts),
    )


def find_delay_doubt(now: float | None, delayed: float | None) -> str | None:
    """Return what speaks against a gross Sharpe ratio of `now` that is `delayed` a minute later; None for nothing."""
    if now is None or delayed is None or now <= _PLAUSIBLE_GROSS or delayed >= now * _KEPT_BY_A_MINUTE:
        return None
    return "the edge is gone one minute later: the bars' label or zone is wrong, or they know the future"


def _compute_delay(data: Dataset, model: Model | None, settings: Settings) -> tuple[float | None, float | None]:
    """Return the gross Sharpe ratio of the model on sessions that it has not seen, and with all that it sees a minute
    late; None where fewer than five sessions are unseen, or no model serves.
    """
    if model is None:
        return None, None
    embargo = settings.exam.embargo_sessions
    unseen = find_unseen(list_sessions(data.frame), model.meta.label_end, embargo_sessions=embargo)
    if len(unseen) < _FEWEST_SESSIONS:
        return None, None
    days = [session.day for session in unseen]
    rows, watchlist, a_year = data.frame, settings.market.watchlist, Calendar(model.meta.calendar).sessions_per_year
    run = run_model(model, rows, days, cost_bps=0.0, watchlist=watchlist, jobs=count_cores(settings))
    delayed = run_late(model, run.predicted, rows, days, cost_bps=0.0, watchlist=watchlist)
    now, late = (
        metrics.compute_sharpe_or_none(simulation.gross, sessions_per_year=a_year)
        for simulation in (run.simulation, delayed)
    )
    return now, late


def _decide(rows: pl.DataFrame, table: tuple[Feature, ...], decide: Decider) -> pl.DataFrame:
    """Return features, prediction and position of rows as `_compute_rows` gives them."""
    has_features = rows.select(decide.inputs.is_known()).to_series()
    predicted = np.full(rows.height, np.nan, dtype=np.float32)
    predicted[has_features.to_numpy()] = decide.predict(decide.inputs.build_matrix(rows.filter(has_features)))
    rows = rows.with_columns(pl.Series("prediction", predicted, nan_to_null=True))
    positions = compute_target_positions(
        rows,
        threshold=decide.threshold,
        horizon_minutes=decide.horizon_minutes,
        weight=1.0,
        flat_minutes_before_close=decide.flat_minutes_before_close,
        side=decide.side,
    )
    return rows.select([feature.name for feature in table] + ["prediction"]).with_columns(positions["position"])


def _count_unequal(before: pl.DataFrame, after: pl.DataFrame) -> int:
    """Return how many values differ in any bit; a null equals a null. Another number of rows counts as all of them."""
    if before.height != after.height:
        return max(before.height, after.height) * before.width
    if before.equals(after):  # nearly always; column by column costs as much as the features themselves
        return 0
    return sum(int(before[name].ne_missing(after[name]).sum()) for name in before.columns)


def _replace_later(cut: Cut, later: Tampering, random: np.random.Generator, calendar: Calendar) -> pl.DataFrame:
    earlier = cut.bars.filter(pl.col("ts") <= cut.ts)
    tampered = later(cut.bars.filter(pl.col("ts") > cut.ts), random, calendar)
    return pl.concat([earlier, tampered.select(earlier.columns)]).sort("ticker", "ts")


def _count_label_overlap(data: Dataset, settings: Settings) -> int:
    """Return how many training rows have a label that ends at or after the first bar that they must not have seen."""
    division = split_for_exam(list_sessions(data.frame), settings.exam)
    trained = data.frame.filter(division.mask_training(data.frame))
    return int((trained["label_end"] >= division.cut).sum()) + int(
        trained["session"].is_in([session.day for session in division.exam + division.embargoed]).sum()
    )


def _compare_streaming(
    frame: pl.DataFrame, table: tuple[Feature, ...], random: np.random.Generator, on_event: OnEvent
) -> tuple[int, int]:
    """Feed one session to what the bot runs, minute by minute, and compare each minute's features with the batch's."""
    days = sorted(frame["session"].unique().to_list())
    place = int(random.integers(WARMUP_SESSIONS, len(days)))
    columns = list_columns(table)
    known = frame.select(*BAR_SCHEMA.names(), *columns)
    bars = known.filter(pl.col("session").is_in(days[place - WARMUP_SESSIONS : place + 1]))
    batch = pl.concat([bars, evaluate(build_grid(bars, columns), table)], how="horizontal")
    streaming = StreamingFeatures(bars.filter(pl.col("session") < days[place]), table=table)
    names = [feature.name for feature in table]
    streaming.start(days[place])
    minutes = (
        batch.filter(pl.col("session") == days[place]).sort("ts", "ticker").partition_by("ts", maintain_order=True)
    )
    differences = compared = 0
    for done, minute in enumerate(minutes):
        live = streaming.push(minute.select(bars.columns))
        differences += _count_unequal(minute.select(names), live.select(names))
        compared += live.height
        on_event(Event("stream", done + 1, len(minutes)))
    return compared, differences
