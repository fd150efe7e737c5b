"""The story of `backtest`: the loop replayed over history, week by week, and what each way to run it would have earned.

Trains and scores through `trainings`; who is promoted and who trades is replayed by `exam.replay`. Changes nothing that
serves: bars are cached as by every collection, and trainings under <home>/backtest.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl import durable
from hftcl.errors import NoDataError, UsageError
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.exam import policies
from hftcl.exam.policies import PolicyAttempt, PolicyRun
from hftcl.exam.split import ExamSplit, Session, list_sessions, split
from hftcl.formats import count
from hftcl.learning.backtest.report import FREE, NEVER, POLICY, build_report
from hftcl.learning.backtest.trainings import Score, Unit, Workshop, cache_folder, score_all, train_all
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import Dataset, Window, find_warm_up
from hftcl.learning.record import split_folds
from hftcl.learning.reports import BacktestReport
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource
from hftcl.market.window import AsOf, find_known_end, list_window, open_market, parse_day
from hftcl.settings import Settings

MIN_SESSIONS: Final = 5  # fewer define no difference of Sharpe ratios
# The backtest retrains once a week, after its last session; calendar weeks keep holidays in place.
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The bars of the whole span with features, and the trainings on it, oldest first; `first` is asked for."""

    first: date
    data: Dataset
    weeks: tuple[date, ...]
    sessions: tuple[Session, ...]
    """Every session after the first training, oldest first."""
    notes: tuple[str, ...]

    @property
    def counted(self) -> tuple[Session, ...]:
        """The sessions that are compared."""
        return tuple(session for session in self.sessions if session.day >= self.first)


def backtest(
    settings: Settings, first: date | str, last: date | str, *, now: datetime, on_event: OnEvent
) -> BacktestReport:
    """Replay the loop over the sessions `first` to `last` (dates or ISO texts, both included); compare ways to run it.

    A training at the close of the last session of each ISO week, on the `[market] lookback_days` window that ends
    there. The first is the newest before `first` whose window is full of bars, or else the first one that is.
    Raises UsageError for dates that are none, or in the wrong order; NoDataError for too few sessions.
    """
    begin, end = parse_day("--from", first), parse_day("--to", last)
    if begin > end:
        raise UsageError(f"--from {begin} lies after --to {end}. Exchange them.")
    params = merge_params(settings)
    source, calendar = open_market(settings)
    watch = Stopwatch()
    with _hold_lock(settings):
        known_end = find_known_end(source, calendar, settings, begin, end, now)
        history = _collect_history(settings, source, calendar, begin, known_end, watch, on_event)
        for note in history.notes:
            on_event(Event("backtest", text=note, level=Level.WARNING))
        data = history.data
        shop = Workshop(
            settings=settings,
            frame=data.frame,
            params=params,
            features=data.features,
            source=data.source,
            synthetic=data.synthetic,
        )
        units, weekly, unplanned = _plan_units(history, calendar, settings)
        with watch("train"):
            files, failed, resumed = train_all([*weekly, *units], shop, on_event)
            failed = {**unplanned, **failed}
        with watch("score"):
            days = tuple(session.day for session in history.sessions)
            kept = [unit for unit in weekly if unit.model_id not in failed]
            scores = score_all(kept, files, shop, days, on_event)
            walked = score_all([unit for unit in units if unit.model_id not in failed], files, shop, (), on_event)
    attempts = [_build_attempt(unit, scores[unit.model_id], calendar) for unit in kept]
    if not attempts:
        raise NoDataError(f"No week could be trained on. The first: {next(iter(failed.values()), 'no reason given')}")
    with watch("replay"):
        courses = _run_policies(settings, history, attempts, _compute_first_record(weekly, units, scores, walked))
    return build_report(
        courses,
        settings,
        history.data,
        first=history.counted[0].day,
        trainings=len(weekly) + len(units),
        resumed=resumed,
        notes=(*history.notes, *(f"{name} has no model: {why}" for name, why in failed.items())),
        timings=watch.timings(),
    )


@contextlib.contextmanager
def _hold_lock(settings: Settings) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with durable.convert_storage_faults("preparing the folder of the backtest"):
            durable.make_folder(cache_folder(settings))
            stack.enter_context(durable.lock(cache_folder(settings) / ".lock", "backtest"))
        yield


def _find_close(calendar: Calendar, session: date) -> datetime:
    close: datetime = calendar.sessions(session, session)["close"][0]
    return close


def list_week_ends(calendar: Calendar, first: date, last: date) -> tuple[date, ...]:
    """Return the last session of each ISO week that lies in `first` to `last`, oldest first."""
    days = calendar.sessions(first, last + _WEEK)["session"].to_list()
    return tuple(
        day for day, later in pairwise(days) if day.isocalendar()[:2] != later.isocalendar()[:2] and day <= last
    )


def _collect_history(
    settings: Settings,
    source: BarSource,
    calendar: Calendar,
    begin: date,
    known_end: AsOf,
    watch: Stopwatch,
    on_event: OnEvent,
) -> History:
    """Collect the bars of the whole span at once, and say when the loop can first train.

    Features look back only, so those of a week are what they would have been at its end. Which tickers are left out
    for lack of bars, and what lies before an unannounced split, is decided for each window, or later bars would.
    """
    last = calendar.find_last_complete(known_end.at)
    ends = list_week_ends(calendar, begin - 4 * _WEEK, last)
    ends = ends[max(sum(day < begin for day in ends) - 1, 0) :]
    if not ends:
        raise NoDataError(f"From {begin} to {last} there is no end of a week. Ask for more sessions.")
    window_begin = ends[0] - timedelta(days=settings.market.lookback_days - 1)
    span = (last - find_warm_up(calendar, window_begin)).days + 1
    wide = replace(settings, market=replace(settings.market, lookback_days=span, min_coverage=0.0))
    data = Window(
        settings=wide,
        source=source,
        calendar=calendar,
        known_end=known_end,
        save=True,
        keep_past=True,
        on_event=on_event,
        watch=watch,
    ).assemble()
    all_sessions = list_sessions(data.frame)
    full = tuple(day for day in ends if _list_window(calendar, settings, day)[0] >= all_sessions[0].day and day < last)
    sessions = tuple(session for session in all_sessions if full and session.day > full[0])
    counted = [session for session in sessions if session.day >= begin]
    late = not full or full[0] != ends[0]
    if len(counted) < MIN_SESSIONS:
        why = (
            f" after a week whose window of {settings.market.lookback_days} days is full of bars; they begin on "
            f"{all_sessions[0].day}. Ask for a later --to, or lower [market] lookback_days"
            if late
            else ". Ask for a later --to"
        )
        raise NoDataError(
            f"{count(len(counted), 'session')} from {begin} to {last} can be compared, "
            f"needs {MIN_SESSIONS} or more{why}."
        )
    notes = []
    if late:
        notes.append(
            f"the bars begin on {all_sessions[0].day}: the first full window of "
            f"{settings.market.lookback_days} days ends on "
            f"{full[0]}, and what is compared begins on {counted[0].day}"
        )
    notes += [_describe_jump(jump, calendar, settings, full) for jump in data.jumps]
    return History(first=begin, data=data, weeks=full, sessions=sessions, notes=tuple(notes))


def _describe_jump(jump: Finding, calendar: Calendar, settings: Settings, weeks: Sequence[date]) -> str:
    spans = [(_find_warm_up_of(calendar, settings, day), day) for day in weeks]
    touched = sum(_spans(jump, begin, end) for begin, end in spans)
    return (
        f"{jump.ticker}: {jump.detail}, near the ratio of a split that the source does not announce. "
        f"{count(touched, 'weekly window')} of {len(weeks)} span that night and leave out the ticker's bars before it; "
        "buy and hold counts the change as a return"
    )


def _spans(jump: Finding, begin: date, end: date) -> bool:
    """Whether bars from session `begin` to `end` would show the jump."""
    return jump.session is not None and begin < jump.session <= end


def _find_warm_up_of(calendar: Calendar, settings: Settings, day: date) -> date:
    return find_warm_up(calendar, _list_window(calendar, settings, day)[0])


def _list_window(calendar: Calendar, settings: Settings, day: date) -> tuple[date, ...]:
    return list_window(calendar, settings, AsOf(at=_find_close(calendar, day), note="", explicit=True))


# --- what is trained --------------------------------------------------------------------------------------------------


def _plan_units(
    history: History, calendar: Calendar, settings: Settings
) -> tuple[list[Unit], list[Unit], dict[str, str]]:
    """Return the trainings of the walk-forward that begins the record, and those of the weeks, oldest first.

    And by model id why a week has none: where too little is left after an unannounced split.
    """
    held = _SessionBars.from_frame(history.data.frame)
    weekly: list[Unit] = []
    unplanned: dict[str, str] = {}
    for day in history.weeks:
        days = _list_window(calendar, settings, day)
        warm_up = find_warm_up(calendar, days[0])
        jumps = tuple(jump for jump in history.data.jumps if _spans(jump, warm_up, day))
        model_id = f"{_find_close(calendar, day):%Y%m%d_%H%M%S}"
        tickers = held.list_tickers(days, settings.market.min_coverage, jumps)
        sessions = held.list_sessions(days, tickers, jumps)
        try:
            division = split(
                sessions, exam_sessions=settings.exam.sessions, embargo_sessions=settings.exam.embargo_sessions
            )
        except NoDataError as error:  # the loop would have had no candidate either
            unplanned[model_id] = str(error)
            continue
        weekly.append(held.build_unit(model_id, sessions, tickers, division, warm_up, jumps))
    if not weekly:
        raise NoDataError(f"No week could be trained on. The first: {next(iter(unplanned.values()))}")
    first = weekly[0]
    parts = split_folds(first.window, first.split, embargo_sessions=settings.exam.embargo_sessions)
    walked = [
        held.build_unit(
            f"{first.model_id}_fold{index}", (*part.train, *part.embargoed, *part.exam), first.tickers, part,
            first.warm_up, first.jumps,
        )
        for index, part in enumerate(parts)
        if part.train != first.split.train
    ]  # fmt: skip
    return walked, weekly, unplanned


@dataclass(frozen=True, slots=True)
class _SessionBars:
    """What the span's bars hold: sessions, which tickers each has, and a digest of each session's rows."""

    sessions: tuple[Session, ...]
    present: Mapping[date, frozenset[str]]
    digests: Mapping[date, bytes]

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "_SessionBars":
        present, digests = {}, {}
        for (day,), rows in frame.partition_by("session", as_dict=True).items():
            present[day] = frozenset(rows["ticker"].unique().to_list())
            digests[day] = _compute_digest(rows)
        return cls(list_sessions(frame), present, digests)

    def list_tickers(self, days: Sequence[date], share: float, jumps: Sequence[Finding]) -> tuple[str, ...]:
        """Return the tickers with bars in at least `share` of `days`, sorted; all that have any where none has."""
        counts: dict[str, int] = {}
        for day in days:
            for ticker in self._find_present(day, jumps):
                counts[ticker] = counts.get(ticker, 0) + 1
        kept = sorted(ticker for ticker, count in counts.items() if count >= share * len(days))
        return tuple(kept or sorted(counts))

    def list_sessions(
        self, days: Sequence[date], tickers: Sequence[str], jumps: Sequence[Finding]
    ) -> tuple[Session, ...]:
        """Return the sessions of `days` with bars, oldest first; with jumps, those that have bars of `tickers`."""
        inside = (session for session in self.sessions if days[0] <= session.day <= days[-1])
        return tuple(
            session for session in inside if not jumps or self._find_present(session.day, jumps) & set(tickers)
        )

    def _find_present(self, day: date, jumps: Sequence[Finding]) -> frozenset[str]:
        gone = {jump.ticker for jump in jumps if jump.session is not None and day < jump.session}
        return self.present.get(day, frozenset()) - gone

    def build_unit(
        self,
        model_id: str,
        sessions: tuple[Session, ...],
        tickers: tuple[str, ...],
        division: ExamSplit,
        warm_up: date,
        jumps: tuple[Finding, ...],
    ) -> Unit:
        digest = hashlib.sha256(" ".join([*tickers, *(f"{jump.ticker}:{jump.session}" for jump in jumps)]).encode())
        for session in sessions:
            digest.update(self.digests[session.day])
        return Unit(
            model_id=model_id,
            window=sessions,
            tickers=tickers,
            split=division,
            key=digest.hexdigest(),
            warm_up=warm_up,
            jumps=jumps,
        )


def _compute_digest(rows: pl.DataFrame) -> bytes:
    """Return the SHA-256 of every value of `rows`, bars and features alike."""
    digest = hashlib.sha256()
    for name in rows.columns:
        values = rows[name]
        nulls = values.is_null().to_numpy()
        plain = values.fill_null(strategy="zero") if values.dtype.is_numeric() else values
        data = plain.to_numpy() if plain.dtype.is_numeric() else plain.cast(pl.String).fill_null("").str.join("\n")
        digest.update(name.encode() + nulls.tobytes())
        digest.update(data.tobytes() if isinstance(data, np.ndarray) else data.item().encode())
    return digest.digest()


# --- what is replayed -------------------------------------------------------------------------------------------------


def _build_attempt(unit: Unit, score: Score, calendar: Calendar) -> PolicyAttempt:
    return PolicyAttempt(
        model_id=unit.model_id,
        at=_find_close(calendar, unit.window[-1].day),
        label_end=score.meta.label_end,
        window=unit.window,
        marks=score.marks,
        synthetic=score.meta.synthetic,
        fault=score.fault,
        sessions_per_year=calendar.sessions_per_year,
    )


def _compute_first_record(
    weekly: Sequence[Unit], walked: Sequence[Unit], scores: Mapping[str, Score], folded: Mapping[str, Score]
) -> tuple[float, ...]:
    """Return the net P&L of the walk-forward over the first exam: of each fold by its own model, oldest first."""
    by_day: dict[date, float] = {}
    first = weekly[0]
    if first.model_id in scores:
        by_day = {day: scores[first.model_id].marks[day].net for day in first.split.exam_days}
    for unit in walked:
        if unit.model_id in folded:
            by_day |= {day: folded[unit.model_id].marks[day].net for day in unit.split.exam_days}
    return tuple(by_day[day] for day in sorted(by_day))


def _run_policies(
    settings: Settings, history: History, attempts: Sequence[PolicyAttempt], begun: Sequence[float]
) -> dict[str, PolicyRun]:
    """Return what each way to run the loop earned on the sessions that are compared, by its name."""
    promote, exam, sessions = settings.promote, settings.exam, history.sessions
    free = policies.run_policy(attempts, policies.build_verdict_gate(promote, exam), sessions)
    courses = {
        POLICY: policies.apply_edge(free, sessions, begun=begun, rule=settings.edge, policy=promote.policy),
        FREE: free,
        NEVER: policies.run_policy(attempts, policies.never_retrain, sessions),
        "always newest": policies.run_policy(attempts, policies.always_newest, sessions),
        "seed, stored scores": policies.run_policy(
            attempts, policies.build_stored_scores_gate(promote, exam), sessions
        ),
        "stand aside": policies.build_run([policies.NOTHING] * len(sessions), sessions),
    }
    counted = history.counted
    cut = {name: course.cut_since(counted[0].day) for name, course in courses.items()}
    held = policies.buy_and_hold(_collect_closes(history.data.frame, counted), cost_bps=settings.strategy.cost_bps)
    return {**cut, "buy and hold": policies.build_run(held, counted)}


def _collect_closes(frame: pl.DataFrame, counted: Sequence[Session]) -> npt.NDArray[np.float64]:
    """Return the closes of the regular session: a row for the session before the first, then one for each of `counted`.

    NaN where a ticker has no bar; columns by ticker.
    """
    last = (
        frame.filter(pl.col("regular"))
        .sort("ts")
        .group_by("session", "ticker")
        .agg(pl.col("close").last())
        .pivot("ticker", index="session", values="close")
        .sort("session")
    )
    before = last.filter(pl.col("session") < counted[0].day).tail(1)
    days = pl.DataFrame({"session": [session.day for session in counted]})
    rows = pl.concat([before, days.join(last, on="session", how="left")])
    return np.asarray(rows.drop("session").cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)
