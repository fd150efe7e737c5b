"""The story of `inspect`: look into a folder of files and say what it holds, what is sure, and what is only a guess.

Reads, never writes. What it says is what a collection would do with the folder: both look through the same source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from hftcl.events import Event, OnEvent
from hftcl.formats import count, format_clock_to_second
from hftcl.market import bars as market
from hftcl.market.coverage import Coverage, measure_coverage
from hftcl.market.doubts import describe_whole_prices
from hftcl.market.layouts import find_layout
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources.files import SET_FOLDER, FilesSource
from hftcl.market.sources.files_facts import FileLook
from hftcl.market.zone import StampClock, find_clock
from hftcl.settings import Settings

_BEFORE, _AFTER = 330, 240  # minutes around the session: the extended hours of US shares
_NAME_FOLDER: Final = "Name the folder that holds your bars."
_FEW_ODD: Final = 0.01  # of stamps: fewer within their minute are faults of their rows
_UNIT: Final = "price unit"  # with which the guess begins that prices may be cents
_ENOUGH: Final = 20_000  # rows of a ticker that say how its day looks: the newest month


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What is in one file. `ignored` and `refused` are reasons, or None where it is read.

    columns: our name -> theirs. price_unit: what 1 in a price column is in the market's currency, as the layout says;
    where every price is a whole number that is a guess, and told as one. adjusted: for splits,
    None where neither vendor nor name says it. zone: of the stamps: "in the stamps", a zone, or None where it must be
    asked for.
    sure: whether nothing of it is a guess. day: volume by minute before, in and after the session of the calendar.
    coverage: share of the regular minutes between first and last that have a bar, of the first ticker.
    """

    file: str
    layout: str | None = None
    tickers: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    stamps: str | None = None
    interval_s: int | None = None
    zone: str | None = None
    label: str | None = None
    price_unit: float | None = None
    adjusted: bool | None = None
    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    sessions: int = 0
    coverage: float | None = None
    sure: bool = False
    guesses: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    day: tuple[tuple[float, ...], ...] = ()
    ignored: str | None = None
    refused: str | None = None


def inspect(settings: Settings, folder: Path | None, *, on_event: OnEvent) -> tuple[FileReport, ...]:
    """Return what each file of the folder holds, those that are ignored last. Raises SourceError without a file."""
    files = settings.files if folder is None else replace(settings.files, folder=str(folder))
    source = FilesSource(replace(settings, files=files), remedy=_NAME_FOLDER if folder else SET_FOLDER)
    on_event(Event("inspect", 0, 1))
    looks, ignored = source.look()
    root = Path(files.folder)
    calendar = Calendar(settings.market.calendar)
    reports = []
    for done, look in enumerate(looks):
        on_event(Event("inspect", done, len(looks), look.path.name))
        reports.append(_report(source, look, root, calendar, settings))
    on_event(Event("inspect", len(looks), len(looks)))
    left = [FileReport(file=str(path.relative_to(root)), ignored=why, sure=True) for path, why in ignored.items()]
    return (*reports, *left)


def _report(source: FilesSource, look: FileLook, root: Path, calendar: Calendar, settings: Settings) -> FileReport:
    facts = look.facts
    name = str(look.path.relative_to(root))
    if not facts.tickers:
        return FileReport(file=name, layout=facts.layout if facts.columns else None, refused=look.refused or None,
                          columns=facts.columns or None)  # fmt: skip
    ticker = max(facts.newest or facts.tickers, key=lambda name: name in facts.newest)
    whole = source.read_rows(look.path, ticker).filter(pl.col("ts").is_not_null()).sort("ts")
    bars = whole.tail(_ENOUGH)
    clock = _find_clock(bars, facts.zone if facts.kind == "naive" else "UTC", facts.label, calendar)
    zone, guesses, evidence = _find_zone(facts.kind, clock, settings.files.timezone, find_layout(facts.layout).zone)
    is_set = settings.files.label != "auto" or find_layout(facts.layout).label
    label = facts.label
    if clock.label is not None:
        label = clock.label
    elif not is_set:
        guesses = (*guesses, "label: the start of the minute, as with most vendors; the bars do not say")
    if odd := _describe_odd_seconds(bars["ts"]):
        guesses = (*guesses, odd)
    if question := describe_whole_prices(bars):
        guesses = (*guesses, f"{_UNIT}: not sure; {question}")
    shown = _as_utc(whole, zone, facts.zone, facts.kind, facts.label, label)
    covered = _measure_coverage(shown, calendar, ticker)
    return FileReport(
        file=name,
        layout=facts.layout,
        tickers=tuple(facts.tickers),
        columns=facts.columns,
        stamps=f"{facts.kind or 'unreadable'}, such as {facts.form}",
        interval_s=_find_interval(bars["ts"]),
        zone=zone,
        label=label,
        price_unit=1.0 / find_layout(facts.layout).price_divisor,
        adjusted=_find_adjustment(look.path.name, find_layout(facts.layout).adjusted),
        rows=facts.rows,
        first=shown["ts"].min(),  # type: ignore[arg-type]
        last=shown["ts"].max(),  # type: ignore[arg-type]
        sessions=covered.sessions if covered else 0,
        coverage=covered.minutes / covered.expected_minutes if covered and covered.expected_minutes else None,
        sure=zone is not None and not guesses and not look.refused,
        guesses=guesses,
        evidence=evidence,
        day=_sum_day(shown.tail(_ENOUGH), calendar),
        refused=look.refused or None,
    )


def _describe_odd_seconds(stamps: pl.Series) -> str:
    """Return what becomes of stamps that lie within their minute; "" where they are few."""
    odd = stamps.filter(stamps.dt.truncate("1m") != stamps)
    if odd.len() < _FEW_ODD * max(stamps.len(), 1):
        return ""
    return (
        f"stamps: {odd.len():,} of {stamps.len():,} are not on a whole minute, such as "
        f"{format_clock_to_second(odd[0])}: a "
        "collection drops those bars; export the file with the start or the end of the minute"
    )


def _find_clock(bars: pl.DataFrame, zone: str, label: str, calendar: Calendar) -> StampClock:
    """Find the clock of the digits that the file has: what was moved on reading is moved back."""
    digits = bars["ts"].dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.replace_time_zone("UTC")
    return find_clock(digits.dt.offset_by("1m") if label == "end" else digits, bars["volume"], calendar)


def _find_zone(
    kind: str, clock: StampClock, setting: str, of_layout: str
) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """Return the zone, the guesses in it, and the evidence."""
    evidence: tuple[str, ...] = ()
    if clock.zone is not None:
        same = f" (the same here: {', '.join(clock.same)})" if clock.same else ""
        evidence = (
            f"the busiest minute is the open in {clock.zone}{same}, {clock.label} of the minute: score "
            f"{clock.score:.2f} over {count(clock.sessions, 'session')}",
        )
    elif clock.why:
        evidence = (f"zone and label: not sure, {clock.why}",)
    if clock.offset_minutes:
        evidence = (*evidence, f"the sharpest rise of volume is {clock.offset_minutes} minutes from the open in UTC")
    if kind != "naive":
        return "in the stamps", (), evidence
    if clock.zone is not None:
        return clock.zone, (), evidence
    if setting:
        return setting, ("zone: as [files] timezone says; the bars do not confirm it",), evidence
    if of_layout:
        return of_layout, ("zone: as the vendor says; the bars do not confirm it",), evidence
    return None, ("zone: not known; set [files] timezone",), evidence


def _as_utc(bars: pl.DataFrame, zone: str | None, read_as: str, kind: str, label_read: str, label: str) -> pl.DataFrame:
    """Return the bars with the stamps that the found zone and label give."""
    stamp = pl.col("ts")
    if kind == "naive" and zone not in (None, read_as):
        digits = stamp.dt.convert_time_zone(read_as).dt.replace_time_zone(None)
        stamp = digits.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    shift = {("start", "end"): "-1m", ("end", "start"): "1m"}.get((label_read, label), "0m")
    return bars.with_columns(stamp.dt.offset_by(shift).alias("ts")).filter(pl.col("ts").is_not_null())


def _find_interval(stamps: pl.Series) -> int | None:
    """Return the commonest distance of two bars in seconds; None where there are not two."""
    steps = stamps.unique().sort().diff().drop_nulls().dt.total_seconds()
    return int(steps.mode().min()) if steps.len() else None  # type: ignore[arg-type]


def _find_adjustment(name: str, of_layout: bool | None) -> bool | None:
    lower = name.lower()
    if "unadj" in lower:
        return False
    return True if "adj" in lower else of_layout


def _find_sessions(bars: pl.DataFrame, calendar: Calendar) -> pl.DataFrame | None:
    first, last = bars["ts"].min(), bars["ts"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return None
    try:
        return calendar.list_sessions(first.date(), last.date())
    except HorizonError:
        return None


def _measure_coverage(bars: pl.DataFrame, calendar: Calendar, ticker: str) -> Coverage | None:
    sessions = _find_sessions(bars, calendar)
    if sessions is None or sessions.is_empty():
        return None
    raw = bars.select(market.RAW_SCHEMA.names()).with_columns(pl.lit(ticker).alias("ticker"))
    return measure_coverage(market.label(raw.unique("ts").sort("ts"), sessions), sessions, ticker=ticker)


def _sum_day(bars: pl.DataFrame, calendar: Calendar) -> tuple[tuple[float, ...], ...]:
    """Return the volume by minute before, in and after the session, of all; empty for a market that never closes."""
    sessions = _find_sessions(bars, calendar)
    if calendar.name == "24/7" or sessions is None or sessions.is_empty():
        return ()
    opens = sessions.select(pl.col("open").cast(market.TS).alias("from"), "session").sort("from")
    early = (
        bars.select("ts", "volume").with_columns(pl.col("ts").dt.offset_by(f"{_BEFORE}m").alias("near")).sort("near")
    )
    near = early.join_asof(opens, left_on="near", right_on="from", strategy="backward").drop_nulls("from")
    minute = (pl.col("ts") - pl.col("from")).dt.total_minutes()
    length = int((sessions["close"] - sessions["open"]).dt.total_minutes().max())  # type: ignore[arg-type]
    sums = near.group_by(minute.alias("place")).agg(pl.col("volume").sum())
    volumes: dict[int, float] = dict(sums.iter_rows())

    def list_minutes(first: int, last: int) -> tuple[float, ...]:
        return tuple(float(volumes.get(place) or 0.0) for place in range(first, last))

    return list_minutes(-_BEFORE, 0), list_minutes(0, length), list_minutes(length, length + _AFTER)


def propose(reports: tuple[FileReport, ...], folder: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the settings that read this folder, by their keys, and what is left to the user to decide."""
    used = [report for report in reports if report.ignored is None and report.tickers]
    tickers = sorted({ticker for report in used for ticker in report.tickers})
    changes: dict[str, object] = {"market.source": "files", "market.watchlist": tickers, "files.folder": folder}
    questions = [report.refused for report in reports if report.refused and not _is_question(report.refused)]
    naive = [report for report in used if report.zone != "in the stamps"]
    zones = {report.zone for report in naive}
    zones_seen = sorted({zone for zone in zones if zone})
    if len(zones_seen) == 1:
        changes["files.timezone"] = zones_seen[0]
        questions += [
            f"{report.file}: its bars do not say {zones_seen[0]}, as those of the other files do. Is it in "
            "that zone, too?"
            for report in naive
            if report.zone is None
        ][:1]
    elif zones_seen:
        questions.append(f"The files are in several zones ({', '.join(zones_seen)}). Put each in a folder of its own.")
    elif naive:
        questions.append(f"{naive[0].file}: the stamps name no zone. Set [files] timezone.")
    labels = {report.label for report in used if not any(guess.startswith("label") for guess in report.guesses)}
    if labels == {"end"}:
        changes["files.label"] = "end"
    elif len(labels) > 1:
        questions.append("Some files bear the end of the minute and others the start. Put each in a folder.")
    questions += [f"{report.file}: {guess}" for report in used for guess in report.guesses if guess.startswith(_UNIT)][
        :1
    ]
    first = min((report.first for report in used if report.first), default=None)
    last = max((report.last for report in used if report.last), default=None)
    if first and last and (last - first).days + 1 < Settings().market.lookback_days:
        changes["market.lookback_days"] = max((last - first).days + 1, 1)
    return changes, tuple(dict.fromkeys(questions))


def _is_question(refused: str) -> bool:
    """Whether it is refused only because a setting is missing that `propose` sets."""
    return "[files] timezone is not set" in refused or "[files] label =" in refused
